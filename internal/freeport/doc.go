// Package freeport reserves a TCP port for a program that starts later.
//
//	port, release, err := freeport.Hold("127.0.0.1", 0)
//	defer release()
//	// start the program that listens on the port
//
// Listening on port 0, closing the listener and passing the number on would not be enough. The
// kernel may give the port to an outgoing connection before the program listens. And after the
// close, the port may still be in use: a process that was forked before the close has a copy of the
// socket until it executes its own program.
package freeport
