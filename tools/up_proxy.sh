# shellcheck shell=bash
# tools/up --proxy: a Redis without files on a free port, the proxy in front of it, and what to try.

# A port on the loopback address that nobody answers on, from $1 on.
free_port() {
  local port=$1
  while (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do port=$((port + 1)); done
  printf '%s\n' "$port"
}

# setting NAME FLAG…: what flags and environment come to.
setting() {
  local name=$1
  shift
  "$gyre" proxy --print-config "$@" | sed -n "s/^$name=\\([^ ]*\\) .*/\\1/p"
}

run_proxy() {
  install_packages "Redis, which the proxy stands in front of|redis-server"
  local port resp_port redis_port redis
  redis_port=$(free_port 6380)
  port=$(setting PROXY_PORT "$@")
  [[ -n $port ]] || exit 2
  resp_port=$(setting PROXY_RESP "$@")
  local flags=()
  if [[ -z $resp_port ]]; then
    resp_port=$(free_port 6480)
    flags=(--resp "127.0.0.1:$resp_port")
  else
    resp_port=${resp_port##*:}
  fi
  redis-server --port "$redis_port" --bind 127.0.0.1 --save '' --appendonly no \
    >/dev/null &
  redis=$!
  # shellcheck disable=SC2064
  trap "kill $redis 2>/dev/null || true" EXIT
  until (exec 3<>"/dev/tcp/127.0.0.1/$redis_port") 2>/dev/null; do
    kill -0 "$redis" 2>/dev/null || die "redis-server ended at once"
    sleep 0.05
  done
  cat <<TEXT

In another terminal:

  redis-cli -p $redis_port set greeting hello                a value, straight to Redis
  curl 'http://127.0.0.1:$port/lookup?key=greeting'     through the proxy, as JSON
  curl -i 'http://127.0.0.1:$port/v1/entity?id=greeting' as bytes; again: from memory
  redis-cli -p $redis_port set greeting changed              Redis tells the proxy of it
  redis-cli -p $resp_port get greeting                      the proxy as a Redis
  curl 'http://127.0.0.1:$port/stats'

Ctrl-C stops both.

TEXT
  "$gyre" proxy --redis-host 127.0.0.1 --redis-port "$redis_port" "${flags[@]}" "$@" &
  local proxy_pid=$!
  # Processes in the background don't hear Ctrl-C.
  trap 'kill -TERM $proxy_pid 2>/dev/null || true' INT TERM
  local code=0
  wait "$proxy_pid" || code=$?
  while kill -0 "$proxy_pid" 2>/dev/null; do wait "$proxy_pid" || code=$?; done
  return "$code"
}
