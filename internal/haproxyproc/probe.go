package haproxyproc

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"time"
)

// newProbe returns a function that says whether HAProxy answers: on its stats
// socket, and in master-worker mode also by its master, each of which may be
// the last to be ready. "@1" is the current worker as seen from the master.
func newProbe(o Options) (func(context.Context) error, error) {
	if o.StatsSocket == "" && o.MasterSocket == "" {
		return nil, errors.New("haproxyproc: no socket given to ask whether HAProxy is ready")
	}
	return func(ctx context.Context) error {
		if o.StatsSocket != "" {
			if err := answers(ctx, o.StatsSocket, "show info"); err != nil {
				return err
			}
		}
		if o.MasterSocket == "" {
			return nil
		}
		return answers(ctx, o.MasterSocket, "@1 show info")
	}, nil
}

func answers(ctx context.Context, socket, command string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := io.WriteString(conn, command+"\n"); err != nil {
		return err
	}
	// Without this a master before 2.7 would wait for a next command.
	if err := conn.(*net.UnixConn).CloseWrite(); err != nil {
		return err
	}
	answer, err := io.ReadAll(io.LimitReader(conn, 64<<10))
	if err != nil {
		return err
	}
	if !strings.Contains(string(answer), "\nPid:") {
		return errors.New("no process answered")
	}
	return nil
}
