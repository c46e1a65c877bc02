//go:build linux

package sandbox

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// RunInit is process 1. It never returns.
func RunInit() {
	code, err := runInit()
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(2)
	}
	os.Exit(code)
}

func runInit() (int, error) {
	lifeline := bufio.NewReader(os.NewFile(3, "lifeline"))
	line, err := lifeline.ReadString('\n')
	if err != nil {
		return 0, fmt.Errorf("sandbox: process %d is not the first of a sandbox", os.Getpid())
	}
	unix.CloseOnExec(3)
	go endWith(lifeline)
	if err := mounts(); err != nil {
		return 0, err
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	cmd := again(Inside)
	cmd.Env = append(cmd.Env, pidEnv+"="+strings.TrimSpace(line), "TMPDIR="+TempDir)
	// Not cmd.Wait: this process waits for all, its own child and those that lost their parent.
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("sandbox: %w", err)
	}
	go func() {
		for range signals {
			_ = syscall.Kill(cmd.Process.Pid, syscall.SIGTERM)
		}
	}()
	return reap(cmd.Process.Pid)
}

// endWith ends process 1, and with it the sandbox, when nobody holds the other end.
func endWith(lifeline *bufio.Reader) {
	_, _ = lifeline.ReadByte()
	os.Exit(1)
}

func mounts() error {
	// First of all nothing may reach the machine's own mounts.
	if err := private(); err != nil {
		return fmt.Errorf("sandbox: make mounts private: %w", err)
	}
	for _, m := range []struct {
		source, target, kind string
		flags                uintptr
		data                 string
	}{
		{"proc", "/proc", "proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		{"sandbox", Dir, "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=0755"},
	} {
		if err := unix.Mount(m.source, m.target, m.kind, m.flags, m.data); err != nil {
			return fmt.Errorf("sandbox: mount %s on %s: %w", m.kind, m.target, err)
		}
	}
	for _, dir := range []string{TempDir, Dir + "/netns"} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return fmt.Errorf("sandbox: %w", err)
		}
	}
	return nil
}

// private cuts the mounts of this namespace off from those they were copied from.
func private() error {
	err := unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	if !errors.Is(err, unix.EINVAL) {
		return err
	}
	return errors.Join(privateOutsideChroot(), chrootIntoMount())
}

// privateOutsideChroot is private for a process in a chroot, whose "/" is no mount: what
// must be private is the mount that the chroot lies in. A process that puts its root
// below its working directory leaves the chroot by "..", as chroot(2) tells, and comes
// back through what it holds open.
func privateOutsideChroot() error {
	root, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(root)
	home, err := unix.Open(".", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(home)
	const deepest = 64
	if err := errors.Join(unix.Chroot(Dir), unix.Fchdir(root)); err != nil {
		return err
	}
	for range deepest {
		if err := unix.Chdir(".."); err != nil {
			return err
		}
	}
	return errors.Join(
		unix.Mount("none", ".", "", unix.MS_REC|unix.MS_PRIVATE, ""),
		unix.Fchdir(root), unix.Chroot("."), unix.Fchdir(home),
	)
}

// chrootIntoMount makes a mount of the chroot, since ip(8) wants "/" to be one.
func chrootIntoMount() error {
	home, err := os.Getwd()
	if err != nil {
		return err
	}
	return errors.Join(
		unix.Mount("/", Dir, "", unix.MS_BIND|unix.MS_REC, ""),
		unix.Chroot(Dir), unix.Chdir(home),
	)
}

// reap waits for every child, its own and adopted, until pid ends.
func reap(pid int) (int, error) {
	for {
		var ws syscall.WaitStatus
		switch got, err := syscall.Wait4(-1, &ws, 0, nil); {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return 0, fmt.Errorf("sandbox: wait: %w", err)
		case got == pid:
			return status(ws), nil
		}
	}
}
