// Package hellotest makes what tests of a router for TLS need: ClientHellos of every
// shape, a connection that cuts the hello of a real client into records and segments,
// and certificates that real clients believe.
//
//	wire := hellotest.Hello{Name: "a.example", Pad: 20_000}.Wire(1, 100) // records of 1, 100, 100, … bytes
//
//	ca, err := hellotest.NewCA()
//	cert, err := ca.Certificate("a.example", "*.b.example")
//	server := &tls.Config{Certificates: []tls.Certificate{cert}}
//	client := &tls.Config{ServerName: "a.example", RootCAs: ca.Pool()}
//	conn := tls.Client(hellotest.Cut(tcp, hellotest.Cuts{Records: []int{1, 100}, Segment: 1}), client)
//
// It is for tests only, and knows nothing of testing.T.
package hellotest
