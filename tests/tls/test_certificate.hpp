// Certificates and keys, made as the tests run.
#pragma once

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>

namespace gyre::test {

// Of an authority or of a server; its key is Ed25519.
class TestCertificate {
 public:
  struct Wishes {
    std::string name;          // the subject's common name
    std::string alternatives;  // as OpenSSL has it: "DNS:a.example,IP:127.0.0.1"
    bool is_authority = false;
    int64_t from_s = 0;  // since 1970
    int64_t until_s = 4'000'000'000;
  };
  // Signed by `issuer`, or by itself.
  explicit TestCertificate(const Wishes& wishes, const TestCertificate* issuer = nullptr)
      : key_(EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519")), x509_(X509_new()) {
    static long serial = 1;
    must(key_ != nullptr && x509_ != nullptr);
    X509_set_version(x509_, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x509_), serial++);
    ASN1_TIME_set(X509_getm_notBefore(x509_), wishes.from_s);
    ASN1_TIME_set(X509_getm_notAfter(x509_), wishes.until_s);
    X509_set_pubkey(x509_, key_);
    must(X509_NAME_add_entry_by_txt(X509_get_subject_name(x509_), "CN", MBSTRING_UTF8,
                                    reinterpret_cast<const unsigned char*>(wishes.name.c_str()), -1,
                                    -1, 0) == 1);
    const X509* const by = issuer == nullptr ? x509_ : issuer->x509_;
    X509_set_issuer_name(x509_, X509_get_subject_name(by));
    add(NID_basic_constraints, wishes.is_authority ? "critical,CA:TRUE" : "critical,CA:FALSE");
    if (!wishes.alternatives.empty()) add(NID_subject_alt_name, wishes.alternatives.c_str());
    must(X509_sign(x509_, issuer == nullptr ? key_ : issuer->key_, nullptr) != 0);
  }
  ~TestCertificate() {
    X509_free(x509_);
    EVP_PKEY_free(key_);
  }
  TestCertificate(const TestCertificate&) = delete;
  TestCertificate& operator=(const TestCertificate&) = delete;

  std::string certificate() const {
    return pem([this](BIO* to) { return PEM_write_bio_X509(to, x509_); });
  }
  std::string key() const {
    return pem([this](BIO* to) {
      return PEM_write_bio_PrivateKey(to, key_, nullptr, nullptr, 0, nullptr, nullptr);
    });
  }
  std::string key_with_password(const char* password) const {
    return pem([&](BIO* to) {
      return PEM_write_bio_PKCS8PrivateKey(to, key_, EVP_aes_256_cbc(), password,
                                           static_cast<int>(std::strlen(password)), nullptr,
                                           nullptr);
    });
  }

 private:
  static void must(bool holds) {
    if (!holds) throw std::runtime_error("OpenSSL made no certificate");
  }
  void add(int kind, const char* text) {
    X509_EXTENSION* const extension = X509V3_EXT_conf_nid(nullptr, nullptr, kind, text);
    must(extension != nullptr && X509_add_ext(x509_, extension, -1) == 1);
    X509_EXTENSION_free(extension);
  }
  template <class Write>
  static std::string pem(const Write& write) {
    BIO* const memory = BIO_new(BIO_s_mem());
    must(memory != nullptr && write(memory) == 1);
    const char* bytes = nullptr;
    const long size = BIO_get_mem_data(memory, &bytes);
    std::string text(bytes, static_cast<size_t>(size));
    BIO_free(memory);
    return text;
  }

  EVP_PKEY* key_;
  X509* x509_;
};

// An authority, and a server's certificate of it for redis.test and 10.0.0.2.
struct TestTrust {
  TestCertificate authority{{.name = "test authority", .is_authority = true}};
  TestCertificate server{{.name = "server", .alternatives = "DNS:redis.test,IP:10.0.0.2"},
                         &authority};
};

}  // namespace gyre::test
