package peer

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/headgate/headgate/internal/benchmarks/sniproxy/internal/procfs"
	"github.com/stretchr/testify/require"
)

// The function until polls, because other processes send no events.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !is(); {
		require.True(t, time.Now().Before(end), "%s does not happen", what)
		<-time.After(time.Millisecond)
	}
}

func starter(t *testing.T) (*Starter, int) {
	cores, err := Cores()
	require.NoError(t, err)
	s, err := NewStarter(cores[len(cores)-1])
	require.NoError(t, err)
	return s, cores[len(cores)-1]
}

func TestProcess(t *testing.T) {
	s, core := starter(t)
	defer s.Close()
	dir := t.TempDir()
	p, err := s.Start(t.Context(), dir, Plan{
		Files: map[string][]byte{"note": []byte("hello")},
		Args:  []string{"sh", "-c", "cat note; grep Cpus_allowed_list /proc/self/status; echo $GOMAXPROCS; sleep 60 & sleep 60"},
	})
	require.NoError(t, err)
	until(t, "second process", func() bool {
		processes, err := p.Processes()
		return err == nil && len(processes) == 3
	})
	until(t, "output", func() bool { return strings.HasSuffix(p.Output(), "\n1") })
	require.NoError(t, p.Err())
	require.Regexp(t, `^helloCpus_allowed_list:\s+`+strconv.Itoa(core)+"\n1$", p.Output())
	used, err := p.CPU()
	require.NoError(t, err)
	require.Positive(t, used.Total)
	p.Stop()
	require.ErrorContains(t, p.Err(), "killed")
	until(t, "end of the group", func() bool { _, err := p.Processes(); return err != nil })
	p.Stop() // a second Stop does nothing
}

func TestProcessThatCannotStart(t *testing.T) {
	s, _ := starter(t)
	defer s.Close()
	_, err := s.Start(t.Context(), t.TempDir(), Plan{Args: []string{"/nonexistent/router"}})
	require.ErrorContains(t, err, "no such file")
	_, err = s.Start(t.Context(), filepath.Join(t.TempDir(), "none"), Plan{Files: map[string][]byte{"a": nil}, Args: []string{"true"}})
	require.ErrorIs(t, err, os.ErrNotExist)
	p, err := s.Start(t.Context(), t.TempDir(), Plan{Args: []string{"sh", "-c", "echo broken configuration >&2; exit 3"}})
	require.NoError(t, err)
	until(t, "its end", func() bool { return p.Err() != nil })
	require.ErrorContains(t, p.Err(), "sh ended (exit status 3): broken configuration")
}

// TestLaunch: a router gets the processors of the Starter and a directory, which Stop removes.
func TestLaunch(t *testing.T) {
	cores, err := Cores()
	require.NoError(t, err)
	s, err := NewStarter(cores...)
	require.NoError(t, err)
	defer s.Close()
	var got Setup
	r := Router{Plan: func(s Setup) Plan {
		got = s
		return Plan{Files: map[string][]byte{"note": nil}, Args: []string{"sh", "-c", "echo $GOMAXPROCS; sleep 60"}}
	}}
	parent := t.TempDir()
	p, listen, err := s.Launch(t.Context(), parent, r, Setup{Connections: 7})
	require.NoError(t, err)
	require.False(t, p.Began.IsZero())
	require.Equal(t, Setup{Dir: got.Dir, Listen: listen, Cores: len(cores), Connections: 7}, got)
	require.FileExists(t, filepath.Join(got.Dir, "note"))
	until(t, "output", func() bool { return p.Output() == strconv.Itoa(len(cores)) })
	p.Stop()
	require.NoDirExists(t, got.Dir)
	require.DirExists(t, parent)
}

// TestMain is also the main function of the process that TestOwnerIsKilled kills.
func TestMain(m *testing.M) {
	if command := os.Getenv("PEER_TEST_OWNS"); command != "" {
		own(strings.Fields(command))
	}
	os.Exit(m.Run())
}

func own(command []string) {
	cores, err := Cores()
	if err == nil {
		var s *Starter
		var p *Process
		if s, err = NewStarter(cores[0]); err == nil {
			p, err = s.Start(context.Background(), os.TempDir(), Plan{Args: command[1:], ForwardsTerm: command[0] == "term"})
		}
		if err == nil {
			fmt.Println(int(p.Group))
			select {}
		}
	}
	fmt.Println(err)
	os.Exit(1)
}

// TestOwnerIsKilled kills the benchmark, which cannot clean up. All its processes must end.
func TestOwnerIsKilled(t *testing.T) {
	for _, how := range []string{"kill", "term"} {
		t.Run(how, func(t *testing.T) {
			owner := exec.Command(os.Args[0])
			owner.Env = append(os.Environ(), "PEER_TEST_OWNS="+how+" sleep 60")
			out, err := owner.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, owner.Start())
			line, err := bufio.NewReader(out).ReadString('\n')
			require.NoError(t, err)
			group, err := strconv.Atoi(strings.TrimSpace(line))
			require.NoError(t, err)
			processes, err := procfs.Group(group).Processes()
			require.NoError(t, err)
			require.Len(t, processes, 1)
			require.NoError(t, owner.Process.Kill())
			require.Error(t, owner.Wait())
			until(t, "end of the group", func() bool { _, err := procfs.Group(group).Processes(); return err != nil })
		})
	}
}

func TestPinSelf(t *testing.T) {
	cores, err := Cores()
	require.NoError(t, err)
	require.NoError(t, PinSelf(cores[0]))
	now, err := Cores()
	require.NoError(t, err)
	require.Equal(t, cores[:1], now)
	require.NoError(t, PinSelf(cores...))
	now, err = Cores()
	require.NoError(t, err)
	require.Equal(t, cores, now)
}

func TestVersionNumber(t *testing.T) {
	for about, want := range map[string]string{
		"nginx version: nginx/1.22.1\nbuilt with OpenSSL 3.0.15": "1.22.1",
		"HAProxy version 2.6.12-1+deb12u4 2025/01/01":            "2.6.12",
		"sniproxy 0.6.0\n": "0.6.0",
		"nothing":          "",
	} {
		require.Equal(t, want, number(about))
	}
	_, err := find("no-such-router", "that-package")
	require.ErrorContains(t, err, "apt-get install --no-install-recommends that-package")
	sh, err := exec.LookPath("sh")
	require.NoError(t, err)
	path, err := find("sh", "")
	require.NoError(t, err)
	require.Equal(t, sh, path)
}
