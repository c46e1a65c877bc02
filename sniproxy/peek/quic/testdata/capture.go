//go:build ignore

// Capture records the datagrams with which Chromium begins a QUIC connection, for the tests of
// package quic. It answers nothing, so Chromium sends its hello again until the program stops it.
//
//	go run testdata/capture.go     # in the folder of the package
//
// It writes chromium-1.bin and the following files, one for each datagram of the hello.
package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/headgate/headgate/sniproxy/peek"
	"github.com/headgate/headgate/sniproxy/peek/quic"
)

func main() {
	l, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	profile, err := os.MkdirTemp("", "capture-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(profile)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	port := l.LocalAddr().(*net.UDPAddr).Port
	host := fmt.Sprintf("chromium.example:%d", port)
	cmd := exec.CommandContext(ctx, "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
		"--user-data-dir="+profile, "--enable-quic", "--origin-to-force-quic-on="+host,
		"--host-resolver-rules=MAP chromium.example 127.0.0.1", "https://"+host+"/")
	if err := cmd.Start(); err != nil {
		log.Fatal(err)
	}
	defer cmd.Wait() //nolint:errcheck // it is killed
	defer cancel()

	var r quic.Reader
	buf := make([]byte, 1<<16)
	_ = l.SetReadDeadline(time.Now().Add(time.Minute))
	for i := 1; ; i++ {
		n, _, err := l.ReadFrom(buf)
		if err != nil {
			log.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join("testdata", fmt.Sprintf("chromium-%d.bin", i)), buf[:n], 0o644); err != nil {
			log.Fatal(err)
		}
		hello, err := r.Read(buf[:n])
		fmt.Println(n, hello.Name, err)
		if _, ok := err.(peek.NeedMore); !ok {
			return
		}
	}
}
