package sniproxy_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/internal/hellotest"
	"github.com/headgate/headgate/sniproxy"
	"github.com/headgate/headgate/sniproxy/ech"
	"github.com/headgate/headgate/sniproxy/peek"
)

const (
	secret = "secret.example"
	public = "public.example"
)

func echKey(t testing.TB, id uint8) ech.Key {
	t.Helper()
	key, err := ech.Generate(public, id, 32)
	require.NoError(t, err)
	return key
}

func echList(keys ...ech.Key) []byte {
	return ech.AppendConfigList(nil, ech.NewKeys(keys...).Configs()...)
}

func withKeys(keys ...ech.Key) func(*sniproxy.Server) {
	set := ech.NewKeys(keys...)
	return func(s *sniproxy.Server) { s.ECHKeys = func() *ech.Keys { return set } }
}

// echBackend is a server of crypto/tls for the inner name. It has no ECH key. It answers with the
// AUTHORITY of a PROXY header, if there is one, the server name, and the line of the client.
func echBackend(t *testing.T, curves ...tls.CurveID) *backend {
	t.Helper()
	conf := &tls.Config{Certificates: []tls.Certificate{ca().Issue(secret).TLS}, CurvePreferences: curves}
	return newBackend(t, func(c net.Conn) {
		first := bufio.NewReader(c)
		authority := ""
		if h, err := proxyproto.Read(first); err == nil { // otherwise, there is no header
			tlvs, _ := h.TLVs()
			for _, tlv := range tlvs {
				if tlv.Type == proxyproto.PP2_TYPE_AUTHORITY {
					authority = string(tlv.Value) + " "
				}
			}
		}
		server := tls.Server(bufferedConn{c, first}, conf)
		r := bufio.NewReader(server)
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				server.CloseWrite()
				return
			}
			if _, err := io.WriteString(server, authority+server.ConnectionState().ServerName+": "+line); err != nil {
				return
			}
		}
	})
}

// bufferedConn is a connection whose first bytes are in a bufio.Reader.
type bufferedConn struct {
	net.Conn
	r *bufio.Reader
}

func (c bufferedConn) Read(b []byte) (int, error) { return c.r.Read(b) }

// talkECH sends a line, and checks that the server has accepted ECH.
func talkECH(t *testing.T, c net.Conn, list []byte, line string) string {
	t.Helper()
	conf := &tls.Config{ServerName: secret, EncryptedClientHelloConfigList: list, CurvePreferences: []tls.CurveID{tls.X25519, tls.CurveP384}}
	accepted := false
	conf.VerifyConnection = func(s tls.ConnectionState) error { accepted = s.ECHAccepted; return nil }
	answer := tlsTalkOver(t, c, conf, line)
	require.True(t, accepted)
	return answer
}

// hiddenConn is a connection that is not a *net.TCPConn.
type hiddenConn struct{ net.Conn }

func (h hiddenConn) CloseWrite() error { return h.Conn.(*net.TCPConn).CloseWrite() }

// A client of crypto/tls reaches the backend of the inner name, which confirms ECH. With the second
// list of curves, the backend first sends a HelloRetryRequest.
func TestECH(t *testing.T) {
	cuts := map[string]hellotest.Cuts{
		"whole":                {},
		"segments of one byte": {Segment: 1},
		"records of 10 bytes":  {Records: []int{10}},
	}
	backends := map[string][]tls.CurveID{"ServerHello": nil, "HelloRetryRequest": {tls.CurveP384}}
	options := map[string]func(*sniproxy.Server){
		"plain":        func(*sniproxy.Server) {},
		"PROXY header": func(s *sniproxy.Server) { s.ProxyOut, s.ProxyAuthority = 2, true },
		"DialContext": func(s *sniproxy.Server) {
			s.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
				c, err := new(net.Dialer).DialContext(ctx, network, addr)
				return hiddenConn{c}, err
			}
		},
	}
	key := echKey(t, 7)
	eachEngine(t, func(t *testing.T, e engine) {
		for option, set := range options {
			for answer, curves := range backends {
				b := echBackend(t, curves...)
				r := newRouter(t, e, hosts{secret: b.addr}, withKeys(echKey(t, 6), key), set)
				front := r.serve(peek.TLS)
				for cut, cuts := range cuts {
					t.Run(option+", "+answer+", "+cut, func(t *testing.T) {
						want := secret + ": hi"
						if option == "PROXY header" {
							want = secret + " " + want
						}
						require.Equal(t, want, talkECH(t, hellotest.Cut(dial(t, front), cuts), echList(key), "hi"))
						st := r.next()
						require.NoError(t, st.Err)
						require.Equal(t, sniproxy.Relayed, st.Outcome)
						require.Equal(t, secret, st.Name)
						require.True(t, st.ECH)
						require.Equal(t, sniproxy.ECHAccepted, st.ECHResult)
						require.Greater(t, st.ToUpstream, int64(200), "the inner hello counts")
					})
				}
			}
		}
	})
}

// A large upload and a large answer pass unchanged after each kind of answer of the backend.
func TestECHBulk(t *testing.T) {
	key := echKey(t, 7)
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	eachEngine(t, func(t *testing.T, e engine) {
		for name, curves := range map[string][]tls.CurveID{"ServerHello": nil, "HelloRetryRequest": {tls.CurveP384}} {
			t.Run(name, func(t *testing.T) {
				conf := &tls.Config{Certificates: []tls.Certificate{ca().Issue(secret).TLS}, CurvePreferences: curves}
				b := newBackend(t, func(c net.Conn) {
					conn := tls.Server(c, conf)
					_, _ = io.Copy(conn, conn)
					_ = conn.CloseWrite()
				})
				r := newRouter(t, e, hosts{secret: b.addr}, withKeys(key))
				c := tls.Client(dial(t, r.serve(peek.TLS)), &tls.Config{
					ServerName: secret, RootCAs: ca().Pool(), EncryptedClientHelloConfigList: echList(key),
					CurvePreferences: []tls.CurveID{tls.X25519, tls.CurveP384},
				})
				sent := make(chan error, 1)
				go func() {
					_, err := c.Write(data)
					sent <- errors.Join(err, c.CloseWrite())
				}()
				got, err := io.ReadAll(c)
				require.NoError(t, err)
				require.NoError(t, <-sent)
				require.True(t, bytes.Equal(data, got))
				require.True(t, c.ConnectionState().ECHAccepted)
				c.Close()
				require.NoError(t, r.next().Err)
			})
		}
	})
}

// A hello that no key opens reaches the backend of the outer name, with every byte of the client.
func TestECHPassesUnchanged(t *testing.T) {
	key := echKey(t, 7)
	capture := func(conf *tls.Config) []byte {
		wire, err := hellotest.Capture(conf)
		require.NoError(t, err)
		return append(wire, "\x14\x03\x03\x00\x01\x01 and any other bytes"...)
	}
	chromium, err := os.ReadFile("peek/testdata/chromium.bin") // with GREASE
	require.NoError(t, err)
	hello, err := peek.ParseClientHello(chromium)
	require.NoError(t, err)
	require.True(t, hello.ECH)
	for name, c := range map[string]struct {
		wire []byte
		want sniproxy.ECHResult
	}{
		"Chromium":    {chromium, sniproxy.ECHGrease},
		"GREASE":      {capture(&tls.Config{ServerName: secret, EncryptedClientHelloConfigList: echList(echKey(t, 9))}), sniproxy.ECHGrease},
		"another key": {capture(&tls.Config{ServerName: secret, EncryptedClientHelloConfigList: echList(echKey(t, 7))}), sniproxy.ECHFailed},
		"no ECH":      {capture(&tls.Config{ServerName: public}), sniproxy.ECHNone},
	} {
		t.Run(name, func(t *testing.T) {
			eachEngine(t, func(t *testing.T, e engine) {
				got := make(chan []byte, 1)
				b := newBackend(t, func(c net.Conn) {
					all, _ := io.ReadAll(c)
					got <- all
				})
				r := newRouter(t, e, hosts{public: b.addr, hello.ServerName: b.addr}, withKeys(key))
				conn := dial(t, r.serve(peek.TLS))
				_, err := conn.Write(c.wire)
				require.NoError(t, err)
				require.NoError(t, conn.CloseWrite())
				require.Equal(t, c.wire, <-got)
				st := r.next()
				require.Contains(t, []string{public, hello.ServerName}, st.Name)
				require.Equal(t, c.want, st.ECHResult)
				require.NoError(t, st.Err)
			})
		})
	}
}

// privateKeyOf returns the private key of a key file in the form that crypto/tls needs.
func privateKeyOf(t *testing.T, text []byte) []byte {
	t.Helper()
	block, _ := pem.Decode(text)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	require.NoError(t, err)
	return key.(*ecdh.PrivateKey).Bytes()
}

// A client with an old key gets the new ECHConfig from the backend of the public name, and then
// reaches the backend of the inner name (RFC 9849 section 6.1.6).
func TestECHRetryConfigs(t *testing.T) {
	old, key := echKey(t, 7), echKey(t, 8)
	text, err := key.PEM()
	require.NoError(t, err)
	private := privateKeyOf(t, text)
	conf := &tls.Config{
		Certificates:             []tls.Certificate{ca().Issue(public).TLS},
		EncryptedClientHelloKeys: []tls.EncryptedClientHelloKey{{Config: key.Config.Bytes(), PrivateKey: private, SendAsRetry: true}},
	}
	front := newBackend(t, func(c net.Conn) { _ = tls.Server(c, conf).Handshake() })
	r := newRouter(t, native, hosts{public: front.addr, secret: echBackend(t).addr}, withKeys(key))
	addr := r.serve(peek.TLS)

	c := tls.Client(dial(t, addr), &tls.Config{ServerName: secret, RootCAs: ca().Pool(), EncryptedClientHelloConfigList: echList(old)})
	var rejected *tls.ECHRejectionError
	require.ErrorAs(t, c.Handshake(), &rejected)
	c.Close()
	require.Equal(t, echList(key), rejected.RetryConfigList)
	require.Equal(t, sniproxy.ECHGrease, r.next().ECHResult)

	require.Equal(t, secret+": hi", talkECH(t, dial(t, addr), rejected.RetryConfigList, "hi"))
}

// New keys count for the next connection.
func TestECHRotation(t *testing.T) {
	old, key := echKey(t, 7), echKey(t, 8)
	var now atomic.Pointer[ech.Keys]
	now.Store(ech.NewKeys(old))
	r := newRouter(t, native, hosts{secret: echBackend(t).addr, public: echBackend(t).addr}, func(s *sniproxy.Server) { s.ECHKeys = now.Load })
	addr := r.serve(peek.TLS)
	require.Equal(t, secret+": a", talkECH(t, dial(t, addr), echList(old), "a"))
	now.Store(ech.NewKeys(old, key))
	require.Equal(t, secret+": b", talkECH(t, dial(t, addr), echList(old), "b"))
	require.Equal(t, secret+": c", talkECH(t, dial(t, addr), echList(key), "c"))
	now.Store(nil)
	c := tls.Client(dial(t, addr), &tls.Config{ServerName: secret, RootCAs: ca().Pool(), EncryptedClientHelloConfigList: echList(key)})
	require.Error(t, c.Handshake())
	c.Close()
	for range 3 {
		require.Equal(t, sniproxy.ECHAccepted, r.next().ECHResult)
	}
	require.Equal(t, sniproxy.ECHGrease, r.next().ECHResult)
}

// alertOf reads the answer of the router: one alert and FIN.
func alertOf(t *testing.T, c net.Conn) byte {
	t.Helper()
	all, err := io.ReadAll(c)
	require.NoError(t, err)
	require.Len(t, all, 7, "%x", all)
	require.Equal(t, []byte{21, 3}, all[:2])
	return all[6]
}

// The answers to clients whose first hello breaks RFC 9849, or whose inner name has no backend.
func TestECHRefusals(t *testing.T) {
	key := echKey(t, 7)
	silent := newBackend(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	sealed := func(inner hellotest.Hello, padding ...byte) []byte {
		c := key.Config
		s, err := hellotest.NewSealer(c.Bytes(), c.PublicKey, c.ID, c.KEM, c.Suites[0].KDF, c.Suites[0].AEAD)
		require.NoError(t, err)
		inner.Extensions = append(inner.Extensions, hellotest.Inner())
		message, err := s.Seal(hellotest.Hello{Name: public}, append(inner.Encoded(), padding...))
		require.NoError(t, err)
		return message
	}
	tls13 := []uint16{0x0304}
	with := func(body string) []byte {
		return hellotest.Hello{Name: public, Extensions: []hellotest.Extension{{Type: 0xfe0d, Body: []byte(body)}}}.Message()
	}
	trailing := hellotest.Records(append(sealed(hellotest.Hello{Name: secret, Versions: tls13}), 'x'))
	for name, c := range map[string]struct {
		wire    []byte
		alert   byte
		outcome sniproxy.Outcome
		result  sniproxy.ECHResult
	}{
		"padding":                {hellotest.Records(sealed(hellotest.Hello{Name: secret, Versions: tls13}, 0, 1)), 47, sniproxy.Rejected, sniproxy.ECHFailed},
		"TLS 1.2":                {hellotest.Records(sealed(hellotest.Hello{Name: secret, Versions: []uint16{0x0304, 0x0303}})), 47, sniproxy.Rejected, sniproxy.ECHFailed},
		"inner type":             {hellotest.Records(with("\x01")), 47, sniproxy.Rejected, sniproxy.ECHFailed},
		"truncated":              {hellotest.Records(with("\x00\x00")), 50, sniproxy.Rejected, sniproxy.ECHFailed},
		"bytes in the record":    {trailing, 50, sniproxy.Rejected, sniproxy.ECHFailed},
		"unknown inner name":     {hellotest.Records(sealed(hellotest.Hello{Name: "unknown.example", Versions: tls13})), 112, sniproxy.NotFound, sniproxy.ECHAccepted},
		"invalid inner name":     {hellotest.Records(sealed(hellotest.Hello{Name: "a b", Versions: tls13})), 112, sniproxy.Rejected, sniproxy.ECHAccepted},
		"no inner name":          {hellotest.Records(sealed(hellotest.Hello{Versions: tls13})), 109, sniproxy.NotFound, sniproxy.ECHAccepted},
		"no ServerHello in time": {hellotest.Records(sealed(hellotest.Hello{Name: "silent.example", Versions: tls13})), 80, sniproxy.DialFailed, sniproxy.ECHAccepted},
	} {
		t.Run(name, func(t *testing.T) {
			eachEngine(t, func(t *testing.T, e engine) {
				r := newRouter(t, e, hosts{public: silent.addr, "silent.example": silent.addr}, withKeys(key), func(s *sniproxy.Server) {
					if c.outcome == sniproxy.DialFailed {
						s.DialTimeout = 10 * time.Millisecond
					}
				})
				conn := dial(t, r.serve(peek.TLS))
				_, err := conn.Write(c.wire)
				require.NoError(t, err)
				require.Equal(t, c.alert, alertOf(t, conn))
				conn.Close()
				st := r.next()
				require.Equal(t, c.outcome, st.Outcome)
				require.Equal(t, c.result, st.ECHResult)
				require.Equal(t, int(c.alert), st.Answer)
				require.Error(t, st.Err)
			})
		})
	}
}

// The first bytes of a backend reach the client, if they are no HelloRetryRequest.
func TestECHOtherAnswers(t *testing.T) {
	key := echKey(t, 7)
	hello, err := hellotest.Capture(&tls.Config{ServerName: secret, EncryptedClientHelloConfigList: echList(key)})
	require.NoError(t, err)
	serverHello := append([]byte{22, 3, 3, 0, 90, 2, 0, 0, 86, 3, 3}, make([]byte, 84)...)
	for name, answer := range map[string][][]byte{
		"nothing":     nil,
		"alert":       {{21, 3, 3, 0, 2, 2, 112}},
		"ServerHello": {serverHello},
		"in pieces":   {serverHello[:1], serverHello[1:20], serverHello[20:]},
		"a part":      {serverHello[:20]},
		"tiny record": {{22, 3, 3, 0, 1, 2}, bytes.Repeat([]byte{22, 3, 3, 0, 1, 0}, 50)},
		"HTTP":        {[]byte("HTTP/1.1 400 Bad Request\r\n\r\n")},
	} {
		t.Run(name, func(t *testing.T) {
			eachEngine(t, func(t *testing.T, e engine) {
				after := make(chan []byte, 1)
				b := newBackend(t, func(c net.Conn) {
					if _, err := hellotest.ReadRecords(c, 1<<16); err != nil {
						return
					}
					for _, piece := range answer {
						_, _ = c.Write(piece)
					}
					_ = c.(*net.TCPConn).CloseWrite()
					all, _ := io.ReadAll(c)
					after <- all
				})
				r := newRouter(t, e, hosts{secret: b.addr}, withKeys(key))
				conn := dial(t, r.serve(peek.TLS))
				_, err := conn.Write(hello)
				require.NoError(t, err)
				got, err := io.ReadAll(conn)
				require.NoError(t, err)
				require.Equal(t, string(bytes.Join(answer, nil)), string(got))
				tail := "\x17\x03\x03\x00\x05hello\x15\x03\x03\x00\x02\x01\x00"
				_, err = io.WriteString(conn, tail)
				require.NoError(t, err)
				require.NoError(t, conn.CloseWrite())
				require.Equal(t, tail, string(<-after))
				require.NoError(t, r.next().Err)
			})
		})
	}
}

// retryConn is the connection of a client that changes its second hello.
type retryConn struct {
	net.Conn
	hellos int
	change func(record []byte) []byte
}

func (c *retryConn) Write(b []byte) (int, error) {
	out := b
	if len(b) > 5 && b[0] == 22 {
		if c.hellos++; c.hellos == 2 {
			out = c.change(bytes.Clone(b))
		}
	}
	if _, err := c.Conn.Write(out); err != nil {
		return 0, err
	}
	return len(b), nil
}

// The alerts for a wrong second hello (RFC 9849 section 7.1.1). The backend sees the end of the
// stream, and never the second hello.
func TestECHSecondHello(t *testing.T) {
	key := echKey(t, 7)
	for name, c := range map[string]struct {
		change func(record []byte) []byte
		alert  byte
	}{
		"damaged": {func(b []byte) []byte { b[len(b)-1] ^= 1; return b }, 51},
		"no ECH":  {func([]byte) []byte { return hellotest.Hello{Name: public}.Wire() }, 109},
		"inner type": {func([]byte) []byte {
			return hellotest.Hello{Extensions: []hellotest.Extension{hellotest.Inner()}}.Wire()
		}, 47},
		"malformed":       {func([]byte) []byte { return record22("\x01\x00\x00\x2bxyz" + string(make([]byte, 40))) }, 50},
		"another message": {func([]byte) []byte { return record22("\x02\x00\x00\x01x") }, 50},
		"too large": {func([]byte) []byte {
			return hellotest.Hello{Pad: 60_000}.Wire()
		}, 50},
		"bytes after it": {func(b []byte) []byte {
			binary.BigEndian.PutUint16(b[3:], binary.BigEndian.Uint16(b[3:])+1)
			return append(b, 'x')
		}, 50},
	} {
		t.Run(name, func(t *testing.T) {
			eachEngine(t, func(t *testing.T, e engine) {
				served := make(chan error, 1)
				conf := &tls.Config{Certificates: []tls.Certificate{ca().Issue(secret).TLS}, CurvePreferences: []tls.CurveID{tls.CurveP384}}
				b := newBackend(t, func(c net.Conn) { served <- tls.Server(c, conf).Handshake() })
				r := newRouter(t, e, hosts{secret: b.addr}, withKeys(key), func(s *sniproxy.Server) { s.MaxHello = 50_000 })
				conn := dial(t, r.serve(peek.TLS))
				client := tls.Client(&retryConn{Conn: conn, change: c.change}, &tls.Config{
					ServerName: secret, EncryptedClientHelloConfigList: echList(key), CurvePreferences: []tls.CurveID{tls.X25519, tls.CurveP384},
				})
				require.ErrorContains(t, client.Handshake(), "remote error: "+tls.AlertError(c.alert).Error())
				require.ErrorIs(t, <-served, io.EOF)
				conn.Close()
				st := r.next()
				require.Equal(t, sniproxy.ECHFailed, st.ECHResult)
				require.Equal(t, int(c.alert), st.Answer)
				var wrong *ech.Error
				require.ErrorAs(t, st.Err, &wrong)
			})
		})
	}
}

func record22(body string) []byte {
	return append([]byte{22, 3, 3, byte(len(body) >> 8), byte(len(body))}, body...)
}

// If the first address of an endpoint accepts the connection, and resets it after the inner hello,
// the Server sends the inner hello to the next address.
func TestECHNextAddress(t *testing.T) {
	key := echKey(t, 7)
	good := echBackend(t)
	eachEngine(t, func(t *testing.T, e engine) {
		var dials atomic.Int32
		r := newRouter(t, e, hosts{secret: "backend.example:1"}, withKeys(key), func(s *sniproxy.Server) {
			s.Resolver = names{"backend.example": {"127.0.0.1", "127.0.0.2"}}
			s.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
				if dials.Add(1) == 1 {
					return resetting(t), nil
				}
				return new(net.Dialer).DialContext(ctx, network, good.addr)
			}
		})
		require.Equal(t, secret+": hi", talkECH(t, dial(t, r.serve(peek.TLS)), echList(key), "hi"))
		require.Equal(t, 2, r.next().Dials)
	})
}

// resetting returns a connection that its peer resets.
func resetting(t *testing.T) net.Conn {
	t.Helper()
	l := listenLocal(t)
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	peer, err := l.Accept()
	require.NoError(t, err)
	require.NoError(t, peer.(*net.TCPConn).SetLinger(0))
	require.NoError(t, peer.Close())
	return c
}

// Close ends a connection that waits for the ServerHello.
func TestECHClose(t *testing.T) {
	key := echKey(t, 7)
	hello, err := hellotest.Capture(&tls.Config{ServerName: secret, EncryptedClientHelloConfigList: echList(key)})
	require.NoError(t, err)
	eachEngine(t, func(t *testing.T, e engine) {
		arrived := make(chan struct{})
		ended := make(chan struct{})
		b := newBackend(t, func(c net.Conn) {
			if _, err := hellotest.ReadRecords(c, 1<<16); err != nil {
				return
			}
			close(arrived)
			_, _ = io.Copy(io.Discard, c)
			close(ended)
		})
		r := newRouter(t, e, hosts{secret: b.addr}, withKeys(key))
		conn := dial(t, r.serve(peek.TLS))
		_, err := conn.Write(hello)
		require.NoError(t, err)
		<-arrived
		require.NoError(t, r.Close())
		<-ended
		st := r.next()
		require.Equal(t, sniproxy.Aborted, st.Outcome)
		require.ErrorIs(t, st.Err, sniproxy.ErrServerClosed)
	})
}
