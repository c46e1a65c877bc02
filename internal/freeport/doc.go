// Package freeport reserves a TCP port for a program that starts later.
//
//	port, release, err := freeport.Hold("127.0.0.1", 0)
//	defer release()
//	// start the program that listens on the port
//
// Many programs listen on port 0, close the listener and pass the number on. But then the kernel
// may give the port to an outgoing connection. And a child process that was forked meanwhile keeps
// a copy of the socket until it executes its program.
package freeport
