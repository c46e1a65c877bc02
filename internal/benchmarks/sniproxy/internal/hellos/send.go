package hellos

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"
)

// spread is shorter than the time that the routers wait for a hello.
const spread = 1500 * time.Millisecond

// Send connects to a router, writes each piece as one TCP segment, and waits until a byte comes
// back, at most limit after the last segment. An error means that no byte came back. Only the
// backend knows whether the hello has reached it, because a router may answer itself.
//
// Send waits 10 ms between few segments, so that the router can read each of them alone. It spreads
// many segments over the duration spread.
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
