package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Each value has the same text in both formats, except points in time: slog writes milliseconds in
// text, and all digits in JSON.
func TestLogFormatsHaveTheSameValues(t *testing.T) {
	var nothing *fs.PathError
	values := map[string]any{
		"duration": 1500 * time.Millisecond, "error": errors.New("a reason"), "wrapped": &fs.PathError{Op: "open", Path: "f", Err: fs.ErrNotExist},
		"addr": netip.MustParseAddrPort("[2001:db8::1]:80"), "tcp": &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 80},
		"number": 3, "share": 0.5, "yes": true, "text": `with "quotes" and é`, "nil error": error(nothing), "nil": nil,
		"errors": []error{errors.New("a"), errors.New("b")}, "struct": struct {
			A int
			B error
		}{1, errors.New("c")}, "map": map[string]int{"b": 1, "a": 2},
		"level": slog.LevelWarn, "group": slog.GroupValue(slog.Duration("inner", time.Second)),
	}
	for name, value := range values {
		logged := func(format LogFormat) string {
			var b bytes.Buffer
			Invocation{Stderr: &b}.Logger(format, slog.LevelInfo).Info("message", "value", value)
			return b.String()
		}
		line := map[string]any{}
		require.NoError(t, json.Unmarshal([]byte(logged("json")), &line), name)
		if group, ok := line["value"].(map[string]any); ok {
			line["value.inner"] = group["inner"]
		}
		got := ""
		for _, key := range []string{"value", "value.inner"} {
			if s, ok := line[key].(string); ok {
				// Let slog quote the text of JSON, if it quotes such a text.
				var b bytes.Buffer
				slog.New(slog.NewTextHandler(&b, nil)).Info("message", key, s)
				_, got, _ = strings.Cut(b.String(), key+"=")
			} else if _, isGroup := line[key].(map[string]any); !isGroup && line[key] != nil {
				b, err := json.Marshal(line[key])
				require.NoError(t, err)
				got = string(b) + "\n"
			}
		}
		_, want, _ := strings.Cut(logged("text"), "value")
		_, want, _ = strings.Cut(want, "=")
		require.Equal(t, want, got, name)
	}
}

func TestLogFormat(t *testing.T) {
	var f LogFormat
	flags := flag.NewFlagSet("tool", flag.ContinueOnError)
	flags.SetOutput(new(bytes.Buffer))
	f.Register(flags)
	require.Equal(t, "text", flags.Lookup("log-format").DefValue)
	require.ErrorContains(t, flags.Parse([]string{"-log-format", "xml"}), "want text or json")
	require.NoError(t, flags.Parse([]string{"-log-format", "json"}))
	var b bytes.Buffer
	log := Invocation{Stderr: &b}.Logger(f, slog.LevelWarn)
	log.Info("dropped")
	log.Warn("kept", "list", []string{"a", "b"})
	require.NotContains(t, b.String(), "dropped")
	require.Contains(t, b.String(), `"level":"WARN","msg":"kept","list":["a","b"]`)
}

// All binaries log through Invocation.Logger, so that all of them have the flag -log-format.
func TestOnlyLoggerMakesHandlers(t *testing.T) {
	handlers := regexp.MustCompile(`slog\.New(Text|JSON)Handler\(`)
	files := 0
	require.NoError(t, filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") || strings.HasPrefix(path, "../../e2e/") {
			return err
		}
		files++
		text, err := os.ReadFile(path)
		if filepath.Base(path) != "log.go" && handlers.Match(text) {
			t.Errorf("%s must use Invocation.Logger", path)
		}
		return err
	}))
	require.Greater(t, files, 50)
}
