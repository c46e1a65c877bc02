// Package ech opens the encrypted ClientHellos (ECH, RFC 9849) of TLS clients for a router. It is
// the client-facing server of the split mode: it decrypts the ClientHello, and the router passes the
// inner ClientHello on to the backend, which ends TLS.
//
//	keys, err := ech.NewKeys(key)
//	opened, err := keys.Open(message) // a ClientHello without the headers of its TLS records
//	switch {
//	case err == nil:
//		… // opened.Hello.ServerName is the inner name; send opened.Message to its backend
//	case errors.Is(err, ech.ErrNotOffered), errors.Is(err, ech.ErrNoKey), errors.Is(err, ech.ErrDecrypt):
//		… // route by the outer name, and send the client's bytes unchanged
//	default:
//		… // an *ech.Error: send the alert in it to the client
//	}
//
// Generate makes a key. ParseKey and Key.PEM read and write the file format of RFC 9934, which
// OpenSSL and nginx use too. Package keyfiles, in a subdirectory, follows a directory of such files.
//
// # The contract
//
// Open follows RFC 9849 section 7.1. It tries only keys whose ECHConfig has the config_id and the
// cipher suite of the client. If none of them decrypts the hello, the client may have sent random
// bytes (GREASE), so the error asks the caller to route by the outer name.
//
// Open returns an inner hello only if all of these are true:
//
//   - Its padding has only zeros, and its legacy_session_id is empty (section 5.1).
//   - It has at most one ech_outer_extensions extension, a list of extensions to copy from the
//     outer hello (section 5.1). The outer hello has all extensions of the list, in the same order.
//     The list names none of them twice, and it does not name encrypted_client_hello or
//     ech_outer_extensions. So the inner hello is never longer than the outer hello.
//   - It has one encrypted_client_hello extension, of type inner (section 7.1).
//   - It offers TLS 1.3 or a later version, and no earlier one (section 7.1).
//   - Package peek accepts it. It may lack a server name.
//
// Open does not compare the outer name with the public name of the ECHConfig. Section 7.1 leaves
// this comparison to the server.
//
// If the backend answers with a HelloRetryRequest, the client sends a second encrypted hello.
// Opened.OpenSecond decrypts it in the HPKE context of the first hello (section 7.1.1).
//
// # Concurrency
//
// Config, Key and Keys are values that do not change, so any goroutine may use them. To change the
// keys, make other Keys. An Opened belongs to one connection.
//
// # What it does not do
//
// The package does not open the ClientHello of QUIC or DTLS. It does not send retry_configs: only a
// server that ends TLS for the public name can send them. It does not confirm the acceptance of an
// inner hello in the ServerHello: the backend of the inner name must do that (section 7.2).
package ech
