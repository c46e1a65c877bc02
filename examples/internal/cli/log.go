package cli

import (
	"cmp"
	"encoding"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"time"
)

// LogFormat is the value of the flag -log-format: "text" or "json". The zero value means text.
type LogFormat string

// Register defines the flag -log-format.
func (f *LogFormat) Register(fs *flag.FlagSet) {
	fs.Var(f, "log-format", "`format` of the log: text or json")
}

// String returns the name of the format.
func (f *LogFormat) String() string { return cmp.Or(string(*f), "text") }

// Set implements flag.Value.
func (f *LogFormat) Set(text string) error {
	if text != "text" && text != "json" {
		return errors.New("want text or json")
	}
	*f = LogFormat(text)
	return nil
}

// Logger returns a logger that writes lines of the format to standard error, from the level on.
// Durations, errors and addresses have the same text in JSON as in lines of text, for example
// "1.5s". Numbers, booleans and lists of strings stay JSON values.
func (inv Invocation) Logger(format LogFormat, level slog.Level) *slog.Logger {
	if format.String() == "json" {
		return slog.New(slog.NewJSONHandler(inv.Stderr, &slog.HandlerOptions{Level: level, ReplaceAttr: sameText}))
	}
	return slog.New(slog.NewTextHandler(inv.Stderr, &slog.HandlerOptions{Level: level}))
}

// sameText replaces a value that slog.JSONHandler and slog.TextHandler write differently by the text
// of slog.TextHandler.
func sameText(_ []string, a slog.Attr) slog.Attr {
	switch v := a.Value.Any().(type) {
	case time.Duration:
		a.Value = slog.StringValue(v.String())
	case slog.Level, encoding.TextMarshaler, []string: // slog.JSONHandler writes the same text, or a list of texts
	default:
		if a.Value.Kind() == slog.KindAny {
			a.Value = slog.StringValue(fmt.Sprintf("%+v", v))
		}
	}
	return a
}
