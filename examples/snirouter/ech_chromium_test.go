package main

import (
	"crypto/ecdh"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/headgate/headgate/internal/chromiumtest"
)

// TestECHWithChromium: Chromium finds the ECHConfigList in the HTTPS record of a host, as the browsers of
// users do. The upstreams are servers of crypto/tls, and those of the real names have no ECH key.
func TestECHWithChromium(t *testing.T) {
	keys := t.TempDir()
	old, oldFile := echConfig(t, keys)
	list, file := echConfig(t, keys)
	require.NoError(t, os.Remove(oldFile))
	hosts := []string{
		"secret.test", tlsState(t, "secret.test"),
		"p384.test", tlsState(t, "p384.test", tls.CurveP384),
		"old.test", tlsState(t, "old.test"),
		"visible.test", tlsState(t, "visible.test"),
	}
	public := tlsServer(t, &tls.Config{
		Certificates:             []tls.Certificate{theAuthority().Issue("public.test").TLS},
		EncryptedClientHelloKeys: []tls.EncryptedClientHelloKey{{Config: list[2:], PrivateKey: privateKey(t, file), SendAsRetry: true}},
	})
	keyless := tlsState(t, "public.test")
	router := func(pairs ...string) *process {
		return start(t, "-ech-keys", keys, "-hosts", hostsFile(t, append(pairs, hosts...)...))
	}
	p, withKeyless, withoutPublic := router("public.test", public), router("public.test", keyless), router()
	dns := dnsOverHTTPS(t, map[string][]byte{"secret.test": list, "p384.test": list, "old.test": old})
	b := chromiumtest.StartWithDNS(t, dns, "--disable-quic", "--ignore-certificate-errors-spki-list="+spki())
	b.Call(t, "Network.enable", map[string]any{}, nil)

	// The config_id of GREASE is random. If a key has the same config_id, the result is "failed".
	for _, c := range []struct {
		name      string
		p         *process
		host      string
		page      string
		encrypted bool
		log       []string // regular expressions
	}{
		{
			"ECHConfigList", p, "secret.test", "name=secret.test HelloRetryRequest=false", true,
			[]string{` name=secret\.test .* ech_result=accepted `},
		},
		{
			"HelloRetryRequest", p, "p384.test", "name=p384.test HelloRetryRequest=true", true,
			[]string{` name=p384\.test .* ech_result=accepted `},
		},
		{
			"old ECHConfigList", p, "old.test", "name=old.test HelloRetryRequest=false", true,
			[]string{` name=public\.test .* ech_result=grease `, ` name=old\.test .* ech_result=accepted `},
		},
		{
			"old ECHConfigList, public name without a key", withKeyless, "old.test", "name=old.test HelloRetryRequest=false", false,
			[]string{` name=public\.test .* ech_result=grease `, ` name=old\.test .* ech_result=(grease|failed) `},
		},
		{
			"old ECHConfigList, public name without an upstream", withoutPublic, "old.test", "ERR_SSL_UNRECOGNIZED_NAME_ALERT", false,
			[]string{` outcome=not_found name=public\.test .* ech_result=grease `},
		},
		{
			"no ECHConfigList", p, "visible.test", "name=visible.test HelloRetryRequest=false", false,
			[]string{` name=visible\.test .* ech_result=(grease|failed) `},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			url := "https://" + c.host + ":" + port(c.p.tls) + "/"
			b.Navigate(t, url)
			text := ""
			c.p.eventually(func() bool {
				text = b.Text(t)
				return strings.Contains(text, c.page) && serverAcceptedECH(t, b, url) == c.encrypted
			}, c.page, &text)
			for _, line := range c.log {
				re := regexp.MustCompile(line)
				c.p.eventually(func() bool { return re.MatchString(c.p.stderr.String()) }, line)
			}
			if c.encrypted { // then the real name was never visible
				require.NotRegexp(t, ` name=`+regexp.QuoteMeta(c.host)+` .* ech_result=(grease|failed) `, c.p.stderr.String())
			}
		})
	}
}

// serverAcceptedECH reports whether Chromium has got the page at url over a connection whose server
// accepted ECH.
func serverAcceptedECH(t *testing.T, b *chromiumtest.Browser, url string) bool {
	t.Helper()
	for _, event := range b.Events("Network.responseReceived") {
		var received struct {
			Response struct {
				URL             string
				SecurityDetails struct{ EncryptedClientHello bool }
			}
		}
		require.NoError(t, json.Unmarshal(event, &received))
		if received.Response.URL == url {
			return received.Response.SecurityDetails.EncryptedClientHello
		}
	}
	return false
}

// dnsOverHTTPS runs a server of DNS over HTTPS (RFC 8484), and returns its URL. Each name that ends
// with .test has the address 127.0.0.1, and no other name has an address. The argument "lists" has the
// ECHConfigLists of hosts: the server serves such a list in the HTTPS record of the host (RFC 9848).
func dnsOverHTTPS(t *testing.T, lists map[string][]byte) (url string) {
	t.Helper()
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<16))
		var m dnsmessage.Message
		if err == nil {
			err = m.Unpack(body)
		}
		if err != nil || len(m.Questions) != 1 {
			http.Error(w, "want a DNS message with one question", http.StatusBadRequest)
			return
		}
		q := m.Questions[0]
		m = dnsmessage.Message{Header: dnsmessage.Header{ID: m.ID, Response: true}, Questions: m.Questions}
		if body := dnsRecord(q, lists); body != nil {
			m.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 60}, Body: body}}
		}
		answer, err := m.Pack()
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("Content-Type", "application/dns-message")
		_, _ = w.Write(answer)
	}))
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{theAuthority().Issue("127.0.0.1").TLS}}
	srv.EnableHTTP2 = true
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return srv.URL
}

// dnsRecord returns the record that answers a question, or nil.
func dnsRecord(q dnsmessage.Question, lists map[string][]byte) dnsmessage.ResourceBody {
	name := strings.TrimSuffix(q.Name.String(), ".")
	// For a port other than 443, the name of the HTTPS record has two more labels (RFC 9460 section 9.1).
	_, host, _ := strings.Cut(name, "._https.")
	switch list := lists[host]; {
	case q.Type == dnsmessage.TypeA && strings.HasSuffix(name, ".test"):
		return &dnsmessage.AResource{A: [4]byte{127, 0, 0, 1}}
	case q.Type == dnsmessage.TypeHTTPS && list != nil:
		body := &dnsmessage.HTTPSResource{SVCBResource: dnsmessage.SVCBResource{Priority: 1, Target: dnsmessage.MustNewName(host + ".")}}
		body.SetParam(dnsmessage.SVCParamALPN, []byte("\x02h2\x08http/1.1"))
		body.SetParam(dnsmessage.SVCParamECH, list)
		return body
	default:
		return nil
	}
}

// privateKey returns the private key of a key file in the form that crypto/tls needs.
func privateKey(t *testing.T, file string) []byte {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	block, _ := pem.Decode(text)
	require.NotNil(t, block)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	require.NoError(t, err)
	return key.(*ecdh.PrivateKey).Bytes()
}
