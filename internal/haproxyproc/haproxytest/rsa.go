package haproxytest

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"os/exec"
	"strconv"
	"testing"
)

// RSAKey makes an RSA key with openssl. In a test with the race detector, crypto/rsa needs seconds
// of CPU time for a key.
func RSAKey(t testing.TB, bits int) *rsa.PrivateKey {
	t.Helper()
	text, err := exec.CommandContext(t.Context(), "openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:"+strconv.Itoa(bits)).Output()
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		t.Fatalf("openssl printed no key: %q", text)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		t.Fatalf("openssl made a %T", parsed)
	}
	return key
}
