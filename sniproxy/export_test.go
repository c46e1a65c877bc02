package sniproxy

import "unsafe"

// SetPortable makes a Server use the engine without event loops.
func SetPortable(s *Server) { s.portable = true }

const sizeOfSession = unsafe.Sizeof(session{})
