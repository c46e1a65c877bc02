// Package freeport keeps a TCP port for a program that starts later.
//
//	port, release, err := freeport.Hold("127.0.0.1", 0)
//	defer release()
//	// start what listens on the port
//
// To listen on port 0, close and hand the number on is not enough: until the other
// program listens the kernel may give the port to an outgoing connection. And the
// close may come to nothing: a process that was forked in between has the listening
// socket too until it executes its own program, so that the port is still in use.
package freeport
