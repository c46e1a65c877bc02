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

// RunInit is the main function of process 1 in the PID namespace of the sandbox. It never returns.
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
	// Do not call cmd.Wait, which waits only for this child. As process 1, this process must also
	// wait for processes whose parent has ended.
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

// endWith ends process 1 when the other end of the pipe "lifeline" closes. The end of process 1 ends
// the whole sandbox.
func endWith(lifeline *bufio.Reader) {
	_, _ = lifeline.ReadByte()
	os.Exit(1)
}

func mounts() error {
	// Do this before all other mounts. Otherwise the other mounts would also appear in the mount
	// namespace of the computer.
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

// The function "private" makes the mounts of this namespace independent of the mounts of the
// computer. When the kernel created the namespace, it copied the mounts of the computer. Until
// private is called, a new mount in the sandbox may also appear outside.
func private() error {
	err := unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	if !errors.Is(err, unix.EINVAL) {
		return err
	}
	return errors.Join(privateOutsideChroot(), chrootIntoMount())
}

// privateOutsideChroot does the work of "private" in a chroot. In a chroot, "/" is not a mount, so
// the mount that contains the chroot must become private. To reach this mount, the process leaves
// the chroot in the way that the manual page chroot(2) describes. It returns through a descriptor
// of the chroot's root directory.
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

// chrootIntoMount makes the root directory of the chroot a mount, because ip(8) needs "/" to be a
// mount.
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

// reap waits for all children, including adopted ones, until the process pid ends. It returns the
// exit status of that process.
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
