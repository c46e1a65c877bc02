package agentcheck_test

import (
	"context"
	"net"
	"sync/atomic"
	"testing"

	"github.com/headgate/headgate/agentcheck"
)

var full = reply{up, ready, percent(75), limit(30), "canary"}

func BenchmarkAppendLine(b *testing.B) {
	for name, r := range map[string]agentcheck.Reply{
		"settings": {State: up, Admin: ready, Weight: percent(75), MaxConn: limit(30)},
		"reason":   full,
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			buf := make([]byte, 0, 128)
			for b.Loop() {
				buf, _ = r.AppendLine(buf[:0])
			}
			b.SetBytes(int64(len(buf)))
		})
	}
}

func BenchmarkParse(b *testing.B) {
	for name, line := range map[string]string{
		"settings": "up ready 75% maxconn:30\n",
		"reason":   "up ready 75% maxconn:30 # canary\n",
		"error":    "bogus 50%\n",
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(line)))
			text := []byte(line)
			for b.Loop() {
				agentcheck.Parse(text)
			}
		})
	}
}

func BenchmarkMostRestrictive(b *testing.B) {
	b.ReportAllocs()
	node := reply{State: up, Admin: drain, Weight: percent(100), Reason: "cordoned"}
	for b.Loop() {
		node.MostRestrictive(full)
	}
}

func BenchmarkLint(b *testing.B) {
	b.ReportAllocs()
	line := []byte("up ready 75% maxconn:30 # canary\n")
	for b.Loop() {
		agentcheck.Lint(line, agentcheck.Setup{})
	}
}

// BenchmarkAnswer measures whole checks over the loopback interface, with and without a name. As
// HAProxy does, a check connects, reads the line, and closes. The result is in answers per second.
func BenchmarkAnswer(b *testing.B) {
	for name, send := range map[string]string{"plain": "", "agent-send": "media/tracks\n"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var answered atomic.Int64
			s := agentcheck.Server{Handler: full, ReadName: send != "", Finished: func(x agentcheck.Exchange) {
				if x.Err == nil {
					answered.Add(1)
				}
			}}
			l := listen(b)
			served := make(chan error)
			go func() { served <- s.Serve(l) }()
			b.RunParallel(func(pb *testing.PB) {
				var buf [128]byte
				for pb.Next() {
					conn, err := net.Dial("tcp", l.Addr().String())
					if err != nil {
						b.Error(err)
						return
					}
					if send != "" {
						conn.Write([]byte(send))
					}
					n, err := conn.Read(buf[:])
					if err != nil || buf[n-1] != '\n' {
						b.Errorf("%q, %v", buf[:n], err)
					}
					conn.Close()
				}
			})
			b.StopTimer()
			if err := s.Shutdown(context.Background()); err != nil {
				b.Error(err)
			}
			<-served
			if int(answered.Load()) != b.N {
				b.Errorf("%d of %d answered", answered.Load(), b.N)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "answers/s")
		})
	}
}

// BenchmarkAnswerFloor measures the smallest possible server, for comparison with BenchmarkAnswer:
// it accepts, writes, and closes. The client causes most of the allocations.
func BenchmarkAnswerFloor(b *testing.B) {
	b.ReportAllocs()
	line := []byte(full.String() + "\n")
	l := listen(b)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				c.Write(line)
				c.Close()
			}()
		}
	}()
	b.RunParallel(func(pb *testing.PB) {
		var buf [128]byte
		for pb.Next() {
			conn, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				b.Error(err)
				return
			}
			if _, err := conn.Read(buf[:]); err != nil {
				b.Error(err)
			}
			conn.Close()
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "answers/s")
	l.Close()
	<-done
}

func TestEncodingAllocatesNothing(t *testing.T) {
	buf := make([]byte, 0, 128)
	if n := testing.AllocsPerRun(1000, func() { buf, _ = full.AppendLine(buf[:0]) }); n != 0 {
		t.Errorf("AppendLine allocates %v times", n)
	}
	line := []byte("up ready 75% maxconn:30\n")
	if n := testing.AllocsPerRun(1000, func() { agentcheck.Parse(line) }); n != 0 {
		t.Errorf("Parse of an answer without a reason allocates %v times", n)
	}
	if n := testing.AllocsPerRun(1000, func() { full.MostRestrictive(reply{Admin: drain}) }); n != 0 {
		t.Errorf("Worst allocates %v times", n)
	}
}
