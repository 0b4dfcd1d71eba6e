#include "tls/session.hpp"

#include <fmt/format.h>
#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <cstring>

#include "base/assert.hpp"
#include "base/printable.hpp"

namespace gyre::tls {

namespace {

constexpr size_t output_bytes_kept = 4u << 10;
constexpr uint64_t microseconds_per_second = 1'000'000;

// Sets the remedy behind the cause.
std::string with(std::string cause, std::string_view remedy) {
  return remedy.empty() ? cause : fmt::format("{}; {}", cause, remedy);
}

std::string text_of(const X509_NAME* name) {
  BIO* const memory = BIO_new(BIO_s_mem());
  GYRE_ASSERT(memory != nullptr);
  X509_NAME_print_ex(memory, name, 0, XN_FLAG_ONELINE);
  const char* bytes = nullptr;
  const long size = BIO_get_mem_data(memory, &bytes);
  std::string text = printable({bytes, static_cast<size_t>(std::max(size, 0l))}, 200);
  BIO_free(memory);
  return text;
}

// The names and addresses that a certificate is for.
std::string names_of(const X509* certificate) {
  std::string names;
  auto* const all = static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr));
  const auto add = [&](const std::string& name) {
    if (names.size() < 200) names += (names.empty() ? "" : ", ") + name;
  };
  for (int i = 0; i < sk_GENERAL_NAME_num(all); ++i) {
    const GENERAL_NAME* const name = sk_GENERAL_NAME_value(all, i);
    if (name->type == GEN_DNS) {
      add(printable({reinterpret_cast<const char*>(ASN1_STRING_get0_data(name->d.dNSName)),
                     static_cast<size_t>(ASN1_STRING_length(name->d.dNSName))}));
    } else if (name->type == GEN_IPADD) {
      const unsigned char* at = ASN1_STRING_get0_data(name->d.iPAddress);
      const bool v4 = ASN1_STRING_length(name->d.iPAddress) == 4;
      add(v4 ? fmt::format("{}.{}.{}.{}", at[0], at[1], at[2], at[3]) : "an IPv6 address");
    }
  }
  GENERAL_NAMES_free(all);
  return names.empty() ? text_of(X509_get_subject_name(certificate)) : names;
}

// What the error queue says last, and leaves it empty.
std::string take_error() {
  const unsigned long code = ERR_peek_last_error();
  const char* const reason = ERR_reason_error_string(code);
  ERR_clear_error();
  return reason == nullptr ? "no reason is known" : reason;
}

struct Pem {
  explicit Pem(const std::string& text)
      : bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size()))) {
    GYRE_ASSERT(bio != nullptr);
  }
  ~Pem() { BIO_free(bio); }
  Pem(const Pem&) = delete;
  Pem& operator=(const Pem&) = delete;
  BIO* bio;
};

// Asked for the password of a key: nobody is there to type one.
int no_password(char*, int, int, void*) {
  return -1;
}

// The end of a text of several certificates is an error to the reader of the next one.
bool is_end_of_pem() {
  const unsigned long code = ERR_peek_last_error();
  const bool is_end =
      ERR_GET_LIB(code) == ERR_LIB_PEM && ERR_GET_REASON(code) == PEM_R_NO_START_LINE;
  if (is_end) ERR_clear_error();
  return is_end;
}

}  // namespace

// --- the context --------------------------------------------------------------------------------

struct Session::Bytes {
  static int read(BIO* bio, char* to, int size_bytes) {
    auto& session = *static_cast<Session*>(BIO_get_data(bio));
    BIO_clear_retry_flags(bio);
    if (session.input_.empty()) {
      BIO_set_retry_read(bio);
      return -1;
    }
    const size_t taken = std::min(session.input_.size(), static_cast<size_t>(size_bytes));
    std::memcpy(to, session.input_.data(), taken);
    session.input_.remove_prefix(taken);
    return static_cast<int>(taken);
  }
  static int write(BIO* bio, const char* from, int size_bytes) {
    BIO_clear_retry_flags(bio);
    static_cast<Session*>(BIO_get_data(bio))->output_.append(from, static_cast<size_t>(size_bytes));
    return size_bytes;
  }
  static long control(BIO*, int command, long, void*) { return command == BIO_CTRL_FLUSH ? 1 : 0; }
  static int verify(int sound, X509_STORE_CTX* store) {
    auto* const ssl =
        static_cast<SSL*>(X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()));
    if (sound == 0) static_cast<Session*>(SSL_get_app_data(ssl))->note_certificate(store);
    return sound;
  }
};

void prepare() {
  OPENSSL_init_ssl(0, nullptr);
}

void wipe(std::string& secret) {
  OPENSSL_cleanse(secret.data(), secret.size());
  secret.clear();
}

Result<std::unique_ptr<Context>> Context::make(const Settings& settings) {
  std::unique_ptr<Context> context(new Context);
  ERR_clear_error();
  if (Result<void> loaded = context->load(settings); !loaded) return fail(loaded.error());
  return context;
}

Context::~Context() {
  SSL_CTX_free(ssl_);
  BIO_meth_free(bytes_);
}

Result<void> Context::load(const Settings& settings) {
  role_ = settings.role;
  records_per_key_ = std::max<uint64_t>(settings.records_per_key, 1);
  remedies_ = settings.remedies;
  ssl_ = SSL_CTX_new(role_ == Role::client ? TLS_client_method() : TLS_server_method());
  bytes_ = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "bytes of a session");
  GYRE_ASSERT(ssl_ != nullptr && bytes_ != nullptr);
  BIO_meth_set_read(bytes_, &Session::Bytes::read);
  BIO_meth_set_write(bytes_, &Session::Bytes::write);
  BIO_meth_set_ctrl(bytes_, &Session::Bytes::control);
  SSL_CTX_set_min_proto_version(ssl_, TLS1_2_VERSION);
  SSL_CTX_set_options(ssl_, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_NO_TICKET);
  SSL_CTX_set_session_cache_mode(ssl_, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_num_tickets(ssl_, 0);
  SSL_CTX_set_mode(ssl_, SSL_MODE_RELEASE_BUFFERS);
  if (Result<void> trusted = trust(settings); !trusted) return trusted;
  return present(settings);
}

Result<void> Context::trust(const Settings& settings) {
  verifies_ = settings.verify && (role_ == Role::client || !settings.authorities.empty());
  const int mode =
      role_ == Role::client ? SSL_VERIFY_PEER : SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
  SSL_CTX_set_verify(ssl_, verifies_ ? mode : SSL_VERIFY_NONE, &Session::Bytes::verify);
  // An authority may be one that another one has signed, or the server's certificate itself.
  X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(ssl_), X509_V_FLAG_PARTIAL_CHAIN);
  if (settings.authorities.empty()) return {};
  const Pem pem(settings.authorities);
  X509_STORE* const store = SSL_CTX_get_cert_store(ssl_);
  size_t found = 0;
  while (X509* const authority = PEM_read_bio_X509(pem.bio, nullptr, &no_password, nullptr)) {
    const bool added = X509_STORE_add_cert(store, authority) == 1;
    X509_free(authority);
    if (!added) return fail(Errc::invalid, "a certificate can't be trusted: " + take_error());
    ++found;
  }
  if (!is_end_of_pem()) return fail(Errc::invalid, "a certificate can't be read: " + take_error());
  if (found == 0) return fail(Errc::invalid, "there is no certificate (PEM)");
  return {};
}

Result<void> Context::present(const Settings& settings) {
  if (settings.certificate.empty()) return {};
  const Pem pem(settings.certificate);
  bool first = true;
  while (X509* const certificate = PEM_read_bio_X509(pem.bio, nullptr, &no_password, nullptr)) {
    const bool used = first ? SSL_CTX_use_certificate(ssl_, certificate) == 1
                            : SSL_CTX_add1_chain_cert(ssl_, certificate) == 1;
    X509_free(certificate);
    if (!used) return fail(Errc::invalid, "the certificate can't be used: " + take_error());
    first = false;
  }
  if (!is_end_of_pem()) {
    return fail(Errc::invalid, "the certificate can't be read: " + take_error());
  }
  if (first) return fail(Errc::invalid, "there is no certificate (PEM)");
  const Pem key_pem(settings.key);
  EVP_PKEY* const key = PEM_read_bio_PrivateKey(key_pem.bio, nullptr, &no_password, nullptr);
  if (key == nullptr) {
    return fail(Errc::invalid,
                "the private key can't be read (PEM, without a password): " + take_error());
  }
  const bool fits = SSL_CTX_use_PrivateKey(ssl_, key) == 1 && SSL_CTX_check_private_key(ssl_) == 1;
  EVP_PKEY_free(key);
  if (!fits)
    return fail(Errc::invalid, "the private key is not the certificate's: " + take_error());
  return {};
}

// --- the session --------------------------------------------------------------------------------

Session::Session(const Context& context, std::string_view peer, uint64_t wall_us)
    : context_(context), peer_(peer), ssl_(SSL_new(context.ssl_)) {
  BIO* const bio = BIO_new(context.bytes_);
  GYRE_ASSERT(ssl_ != nullptr && bio != nullptr);
  BIO_set_data(bio, this);
  BIO_set_init(bio, 1);
  SSL_set_bio(ssl_, bio, bio);
  SSL_set_app_data(ssl_, this);
  X509_VERIFY_PARAM* const verify = SSL_get0_param(ssl_);
  X509_VERIFY_PARAM_set_time(verify, static_cast<time_t>(wall_us / microseconds_per_second));
  if (context.role_ == Role::server) {
    SSL_set_accept_state(ssl_);
    return;
  }
  SSL_set_connect_state(ssl_);
  if (X509_VERIFY_PARAM_set1_ip_asc(verify, peer_.c_str()) != 1) {
    ERR_clear_error();
    X509_VERIFY_PARAM_set_hostflags(verify, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    // To OpenSSL no name is any name.
    nameless_ =
        context.verifies_ &&
        (peer_.empty() || X509_VERIFY_PARAM_set1_host(verify, peer_.data(), peer_.size()) != 1);
    static_cast<void>(SSL_set_tlsext_host_name(ssl_, peer_.c_str()));
    ERR_clear_error();
  }
}

Session::~Session() {
  SSL_free(ssl_);
}

void Session::supply(std::string_view ciphertext) {
  GYRE_ASSERT(input_.empty());
  std::string().swap(kept_);
  input_ = ciphertext;
}

void Session::keep_unread() {
  if (input_.empty()) return;
  kept_ = std::string(input_);
  input_ = kept_;
}

void Session::output_taken() {
  output_.clear();
  if (output_.capacity() > output_bytes_kept) std::string().swap(output_);
}

std::string_view Session::version() const {
  return SSL_get_version(ssl_);
}

Result<bool> Session::handshake() {
  GYRE_ASSERT(!failed_);
  if (nameless_) {
    failed_ = true;
    return fail(Errc::invalid, "there is no name that the other side's certificate could be for");
  }
  ERR_clear_error();
  const int result = SSL_do_handshake(ssl_);
  if (result == 1) return true;
  if (SSL_get_error(ssl_, result) == SSL_ERROR_WANT_READ) return false;
  return fail(failure("the TLS handshake failed"));
}

Result<std::string_view> Session::read() {
  GYRE_ASSERT(!failed_);
  if (ended_) {
    input_ = {};
    return std::string_view();
  }
  if (!plaintext_) plaintext_.reset(new char[record_bytes_max]);
  ERR_clear_error();
  const int got = SSL_read(ssl_, plaintext_.get(), static_cast<int>(record_bytes_max));
  if (got > 0) return std::string_view(plaintext_.get(), static_cast<size_t>(got));
  plaintext_.reset();
  switch (SSL_get_error(ssl_, got)) {
    case SSL_ERROR_WANT_READ:
      return std::string_view();
    case SSL_ERROR_ZERO_RETURN:
      ended_ = true;
      input_ = {};
      return std::string_view();
    default:
      return fail(failure("TLS failed"));
  }
}

Result<void> Session::write(std::string_view plaintext) {
  GYRE_ASSERT(!failed_ && plaintext.size() <= record_bytes_max);
  if (plaintext.empty()) return {};
  ERR_clear_error();
  if (++records_ >= context_.records_per_key_ && SSL_version(ssl_) == TLS1_3_VERSION) {
    records_ = 0;
    // Of the peer's too; OpenSSL sends it before the next record.
    if (SSL_key_update(ssl_, SSL_KEY_UPDATE_REQUESTED) == 1) ++key_updates_;
  }
  const int written = SSL_write(ssl_, plaintext.data(), static_cast<int>(plaintext.size()));
  if (written == static_cast<int>(plaintext.size())) return {};
  return fail(failure("TLS failed"));
}

void Session::close() {
  if (failed_) return;
  ERR_clear_error();
  static_cast<void>(SSL_shutdown(ssl_));
  ERR_clear_error();
}

// --- failures -----------------------------------------------------------------------------------

void Session::note_certificate(X509_STORE_CTX* store) {
  const X509* const certificate = X509_STORE_CTX_get_current_cert(store);
  const int code = X509_STORE_CTX_get_error(store);
  if (certificate == nullptr) {
    untrusted_ =
        fmt::format("the certificate was refused: {}", X509_verify_cert_error_string(code));
    return;
  }
  const std::string subject = text_of(X509_get_subject_name(certificate));
  const Remedies& remedies = context_.remedies_;
  switch (code) {
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
      untrusted_ = with(fmt::format("the certificate is not for {} but for {}", printable(peer_),
                                    names_of(certificate)),
                        remedies.wrong_name);
      break;
    case X509_V_ERR_CERT_HAS_EXPIRED:
      untrusted_ = fmt::format(
          "the certificate of {} has expired: it has to be renewed, or the clock here is wrong",
          subject);
      break;
    case X509_V_ERR_CERT_NOT_YET_VALID:
      untrusted_ =
          fmt::format("the certificate of {} is not valid yet: is the clock here right?", subject);
      break;
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_CERT_SIGNATURE_FAILURE:
    case X509_V_ERR_CERT_UNTRUSTED:
      untrusted_ = with(fmt::format("the certificate of {} is signed by {}, which is not trusted",
                                    subject, text_of(X509_get_issuer_name(certificate))),
                        remedies.untrusted);
      break;
    default:
      untrusted_ = fmt::format("the certificate of {} was refused: {}", subject,
                               X509_verify_cert_error_string(code));
  }
}

std::string Session::cause_of(unsigned long code) const {
  const Remedies& remedies = context_.remedies_;
  switch (ERR_GET_REASON(code)) {
    case SSL_R_CERTIFICATE_VERIFY_FAILED:
      if (!untrusted_.empty()) return untrusted_;
      break;
    case SSL_R_WRONG_VERSION_NUMBER:
    case SSL_R_HTTP_REQUEST:
    case SSL_R_HTTPS_PROXY_REQUEST:
    case SSL_R_PACKET_LENGTH_TOO_LONG:
    case SSL_R_RECORD_LENGTH_MISMATCH:
    case SSL_R_UNEXPECTED_MESSAGE:
    case SSL_R_BAD_PACKET_LENGTH:
      if (!SSL_is_init_finished(ssl_)) return with("what came is not TLS", remedies.no_tls);
      break;
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_TLSV1_ALERT_PROTOCOL_VERSION:
    case SSL_R_NO_PROTOCOLS_AVAILABLE:
      return "the other side speaks none of TLS 1.2 and 1.3";
    case SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED:
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
      return with("a certificate of the client is wanted, and there is none",
                  remedies.no_certificate);
    case SSL_R_TLSV1_ALERT_UNKNOWN_CA:
      return "the other side does not trust who signed our certificate";
    case SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE:
      return with("the other side agreed to nothing that is spoken here, or wants a certificate",
                  remedies.no_certificate);
    default:
      break;
  }
  const char* const reason = ERR_reason_error_string(code);
  return reason == nullptr ? "no reason is known" : reason;
}

Error Session::failure(std::string_view doing) {
  failed_ = true;
  input_ = {};
  const std::string cause = cause_of(ERR_peek_error());
  ERR_clear_error();
  return Error::of(Errc::closed, fmt::format("{}: {}", doing, cause));
}

}  // namespace gyre::tls
