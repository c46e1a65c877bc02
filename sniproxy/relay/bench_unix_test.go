//go:build unix

package relay

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The benchmarks run the relay in its own process, so that they can measure its processor time
// alone. Client and backend are in the test process. Each benchmark runs with both implementations,
// and with a simple relay that uses net.Dial and io.Copy.
//
//	go test -run '^$' -bench . ./sniproxy/relay
//
// Put `taskset -c 0` before the command to compare runs. All processes then share one processor.

const (
	benchMode    = "RELAY_BENCH_MODE"
	benchBackend = "RELAY_BENCH_BACKEND"
)

func TestMain(m *testing.M) {
	if mode := os.Getenv(benchMode); mode != "" {
		benchProcess(mode, netip.MustParseAddrPort(os.Getenv(benchBackend)))
		return
	}
	os.Exit(m.Run())
}

// benchProcess relays until its standard input ends. It prints its address. For every line of
// input, it prints the processor time that it has used, in microseconds, and the number of its
// allocations.
func benchProcess(mode string, backend netip.AddrPort) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(l.Addr())
	switch mode {
	case "io.Copy":
		go serveByCopy(l, backend)
	default:
		e := Engine{Portable: mode == "goroutines"}
		go e.Serve(l, func(Conn) Session { return &fixed{backend} })
	}
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var use syscall.Rusage
		syscall.Getrusage(syscall.RUSAGE_SELF, &use)
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		fmt.Println(time.Duration(use.Utime.Nano()+use.Stime.Nano()).Microseconds(), m.Mallocs)
	}
}

type fixed struct{ backend netip.AddrPort }

func (f *fixed) Hello(_ []byte, err error) Step {
	if err != nil {
		return Step{}
	}
	return Step{Action: Connect, Addr: f.backend}
}
func (f *fixed) DialFailed(error) Step { return Step{} }
func (f *fixed) Done(Result)           {}

func serveByCopy(l net.Listener, backend netip.AddrPort) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			hello := make([]byte, 4096)
			n, err := c.Read(hello)
			if err != nil {
				return
			}
			b, err := net.Dial("tcp", backend.String())
			if err != nil {
				return
			}
			defer b.Close()
			b.Write(hello[:n])
			done := make(chan struct{})
			go func() {
				defer close(done)
				io.Copy(b, c)
				b.(*net.TCPConn).CloseWrite()
			}()
			io.Copy(c, b)
			c.(*net.TCPConn).CloseWrite()
			<-done
		}()
	}
}

// relayProcess is a running benchProcess.
type relayProcess struct {
	addr string
	in   io.Writer
	out  *bufio.Scanner
}

func startProcess(b testing.TB, mode string, backend net.Addr) *relayProcess {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), benchMode+"="+mode, benchBackend+"="+backend.String())
	in, err := cmd.StdinPipe()
	require.NoError(b, err)
	out, err := cmd.StdoutPipe()
	require.NoError(b, err)
	cmd.Stderr = os.Stderr
	require.NoError(b, cmd.Start())
	b.Cleanup(func() { in.Close(); cmd.Wait() })
	p := &relayProcess{in: in, out: bufio.NewScanner(out)}
	require.True(b, p.out.Scan())
	p.addr = p.out.Text()
	return p
}

// used returns the processor time of the relay in microseconds, and the number of its allocations.
func (p *relayProcess) used(b testing.TB) (us, mallocs float64) {
	io.WriteString(p.in, "\n")
	require.True(b, p.out.Scan())
	_, err := fmt.Sscan(p.out.Text(), &us, &mallocs)
	require.NoError(b, err)
	return us, mallocs
}

// compare runs the function loop with each kind of relay. The function handle serves the
// connections of the backend. compare reports the processor time of the relay for each unit of
// work.
func compare(b *testing.B, unit string, perOp float64, handle func(*net.TCPConn), loop func(b *testing.B, addr string)) {
	for _, mode := range []string{"epoll", "goroutines", "io.Copy"} {
		b.Run("relay="+strings.ToLower(mode), func(b *testing.B) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(b, err)
			defer l.Close()
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					go func() { defer c.Close(); handle(c.(*net.TCPConn)) }()
				}
			}()
			p := startProcess(b, mode, l.Addr())
			loop(b, p.addr)
			us, mallocs := p.used(b)
			b.ResetTimer()
			loop(b, p.addr)
			b.StopTimer()
			us2, mallocs2 := p.used(b)
			b.ReportMetric((us2-us)/float64(b.N)/perOp, unit)
			b.ReportMetric((mallocs2-mallocs)/float64(b.N), "relay-allocs/op")
		})
	}
}

// BenchmarkConnection opens a connection, sends a hello of 500 bytes and receives an answer of 1
// KiB.
func BenchmarkConnection(b *testing.B) {
	hello, answer := make([]byte, 500), make([]byte, 1024)
	compare(b, "relay-cpu-us/op", 1, func(c *net.TCPConn) {
		io.ReadFull(c, make([]byte, len(hello)))
		c.Write(answer)
	}, func(b *testing.B, addr string) {
		var wg sync.WaitGroup
		work := make(chan struct{})
		for range 8 {
			wg.Go(func() {
				for range work {
					c, err := net.Dial("tcp", addr)
					if err != nil {
						b.Error(err)
						continue
					}
					c.Write(hello)
					if n, err := io.Copy(io.Discard, onlyReader{c}); n != int64(len(answer)) || err != nil {
						b.Error(n, err)
					}
					c.Close()
				}
			})
		}
		for range b.N {
			work <- struct{}{}
		}
		close(work)
		wg.Wait()
	})
}

// BenchmarkRoundTrip sends 64 bytes and receives them back, on an open connection.
func BenchmarkRoundTrip(b *testing.B) {
	compare(b, "relay-cpu-us/op", 1, echo, func(b *testing.B, addr string) {
		c, err := net.Dial("tcp", addr)
		require.NoError(b, err)
		defer c.Close()
		message := make([]byte, 64)
		for range b.N {
			c.Write(message)
			if _, err := io.ReadFull(c, message); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkBulk receives 16 MiB from the backend on an open connection. The benchmark reports the
// processor time for a GiB, which is 64 times as much.
func BenchmarkBulk(b *testing.B) {
	const size = 16 << 20
	compare(b, "relay-cpu-s/GiB", 1e6*size/(1<<30), func(c *net.TCPConn) {
		piece := make([]byte, 1<<20)
		ask := make([]byte, 1)
		for {
			if _, err := io.ReadFull(c, ask); err != nil {
				return
			}
			for range size / len(piece) {
				if _, err := c.Write(piece); err != nil {
					return
				}
			}
		}
	}, func(b *testing.B, addr string) {
		b.SetBytes(size)
		c, err := net.Dial("tcp", addr)
		require.NoError(b, err)
		defer c.Close()
		buf := make([]byte, 256<<10)
		for range b.N {
			c.Write(buf[:1])
			for left := size; left > 0; {
				n, err := c.Read(buf[:min(left, len(buf))])
				if left -= n; err != nil {
					b.Fatal(err)
				}
			}
		}
	})
}
