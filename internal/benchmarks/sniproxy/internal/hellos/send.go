package hellos

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"
)

// spread is the time over which Send spreads many segments. The routers wait longer for a hello.
const spread = 1500 * time.Millisecond

// Send connects to a router and writes each piece as one TCP segment. Then it waits for the first
// byte of an answer. The argument "limit" bounds this wait. An error means that no byte came back.
//
// If a byte came back, the hello may still not have reached the backend, because a router can answer
// by itself. To find out, call Backend.Saw.
//
// Send pauses 10 ms between two segments, so that the router can read each of them alone. If there
// are many segments, the pauses are shorter, so that all segments are sent within 1.5 s (see the
// constant "spread").
func Send(ctx context.Context, router netip.AddrPort, pieces [][]byte, limit time.Duration) error {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", router.String())
	if err != nil {
		return fmt.Errorf("hellos: %w", err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	begin, pause := time.Now(), min(10*time.Millisecond, spread/time.Duration(max(1, len(pieces))))
	for i, piece := range pieces {
		time.Sleep(time.Until(begin.Add(time.Duration(i) * pause)))
		// net.Dialer sets TCP_NODELAY, so the system sends each write at once.
		if _, err := conn.Write(piece); err != nil {
			return fmt.Errorf("hellos: segment %d of %d: %w", i+1, len(pieces), err)
		}
	}
	end := time.AfterFunc(limit, func() { _ = conn.Close() })
	defer end.Stop()
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		return fmt.Errorf("hellos: %w", err)
	}
	return nil
}
