package sniproxy

import "unsafe"

// SetPortable makes a Server use the implementation of relay with goroutines.
func SetPortable(s *Server) { s.portable = true }

const sizeOfSession = unsafe.Sizeof(session{})
