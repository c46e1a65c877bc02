package ech_test

import (
	"crypto/tls"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/internal/hellotest"
	"github.com/headgate/headgate/internal/testcert"
	"github.com/headgate/headgate/sniproxy/ech"
)

// A client of crypto/tls and a server of crypto/tls shake hands through a router that opens the
// hellos. The server needs no ECH key to confirm ECH (RFC 9849 section 7.2).
func TestSplitMode(t *testing.T) {
	key := generate(t, configID)
	ca := testcert.New("test CA")
	cert := ca.Issue(testName)
	for name, c := range map[string]struct {
		server *tls.Config
		hellos int
	}{
		"server without keys": {&tls.Config{}, 1},
		"server with another key": {&tls.Config{EncryptedClientHelloKeys: []tls.EncryptedClientHelloKey{
			{Config: generate(t, 9).Config.Bytes(), PrivateKey: make([]byte, 32)},
		}}, 1},
		"HelloRetryRequest": {&tls.Config{CurvePreferences: []tls.CurveID{tls.CurveP384}}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			clientEnd, fromClient := net.Pipe()
			toServer, serverEnd := net.Pipe()
			for _, conn := range []net.Conn{clientEnd, fromClient, toServer, serverEnd} {
				require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
				defer conn.Close()
			}
			config := c.server.Clone()
			config.Certificates = []tls.Certificate{cert.TLS}
			served := make(chan error, 1)
			server := tls.Server(serverEnd, config)
			go func() { served <- server.Handshake() }()

			routed := make(chan error, 1)
			hellos := 0
			go func() { routed <- route(ech.NewKeys(key), fromClient, toServer, &hellos) }()
			go io.Copy(fromClient, toServer)

			client := tls.Client(clientEnd, &tls.Config{
				ServerName: testName, RootCAs: ca.Pool(), EncryptedClientHelloConfigList: configList(key),
				CurvePreferences: []tls.CurveID{tls.X25519, tls.CurveP384},
			})
			require.NoError(t, client.Handshake())
			require.NoError(t, <-served)
			require.True(t, client.ConnectionState().ECHAccepted)
			require.Equal(t, testName, server.ConnectionState().ServerName)
			clientEnd.Close()
			<-routed
			require.Equal(t, c.hellos, hellos)
		})
	}
}

// route passes the records of a client on to a server. In the place of each hello, it sends the inner
// hello.
func route(keys *ech.Keys, client, server net.Conn, hellos *int) error {
	var opened *ech.Opened
	for {
		head := make([]byte, 5)
		if _, err := io.ReadFull(client, head); err != nil {
			return err
		}
		body := make([]byte, int(head[3])<<8|int(head[4]))
		if _, err := io.ReadFull(client, body); err != nil {
			return err
		}
		record := append(head, body...)
		if head[0] == 22 { // from the Finished on, records have type 23
			*hellos++
			var err error
			var message []byte
			if opened == nil {
				if opened, err = keys.Open(body); err == nil {
					message = opened.Message
				}
			} else {
				message, err = opened.OpenSecond(body)
			}
			if err != nil {
				return err
			}
			record = hellotest.Records(message)
			copy(record, head[:3]) // servers refuse 0x0301 in the record of the second hello
		}
		if _, err := server.Write(record); err != nil {
			return err
		}
	}
}
