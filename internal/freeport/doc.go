// Package freeport reserves a TCP port for a program that starts later.
//
//	port, release, err := freeport.Hold("127.0.0.1", 0)
//	defer release()
//	// start the program that listens on the port
//
// Many programs choose a port in another way: they listen on port 0, close the listener, and pass
// on the number of the port. But after the close, the kernel may use the port for an outgoing
// connection. Or the port is still in use: a child process that was forked before the close has a
// copy of the socket until it executes its program.
package freeport
