package sniproxy

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAcceptErrorsAreLoggedOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		s := &Server{Lookup: &askedFor{}, Logger: slog.New(slog.NewTextHandler(&log, nil))}
		require.NoError(t, s.init())
		<-time.After(time.Millisecond)
		for range 250 {
			s.acceptFailed(errors.New("broken"))
			<-time.After(10 * time.Millisecond)
		}
		lines := strings.Split(strings.TrimSpace(log.String()), "\n")
		require.Len(t, lines, 3)
		require.Contains(t, lines[0], `level=WARN msg="accepting failed" err=broken times=1`)
		require.Contains(t, lines[1], "times=100")

		s.Logger = nil
		s.acceptFailed(errors.New("broken"))
	})
}
