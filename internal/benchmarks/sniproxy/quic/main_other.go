//go:build !linux

package main

import "log"

func main() { log.Fatal("quic: measuring needs /proc and sched_setaffinity, and so Linux") }
