package kubeconn

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"

	"k8s.io/klog/v2"
)

var (
	redirect sync.Once
	current  atomic.Pointer[slog.Logger]
)

// LogTo makes what client-go logs by way of klog go to logger, as debug lines but
// for errors: what matters of it the callers are told as errors, and say
// themselves. Nil silences it. The last call counts, for the whole process; it may
// come from any goroutine.
func LogTo(logger *slog.Logger) {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	current.Store(logger)
	// klog's own setter is not safe beside lines that are being logged.
	redirect.Do(func() { klog.SetSlogLogger(slog.New(handler{})) })
}

// handler hands records to the current logger. What is kept of With and WithGroup
// is the attributes, in which klog's callers put what they want to say.
type handler struct{ attrs []slog.Attr }

func level(l slog.Level) slog.Level {
	if l >= slog.LevelError {
		return l
	}
	return slog.LevelDebug
}

func (h handler) Enabled(ctx context.Context, l slog.Level) bool {
	return current.Load().Enabled(ctx, level(l))
}

func (h handler) Handle(ctx context.Context, r slog.Record) error {
	r = r.Clone()
	r.Level = level(r.Level)
	r.AddAttrs(h.attrs...)
	r.AddAttrs(slog.String("from", "client-go"))
	return current.Load().Handler().Handle(ctx, r)
}

func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return handler{append(h.attrs[:len(h.attrs):len(h.attrs)], attrs...)}
}

func (h handler) WithGroup(string) slog.Handler { return h }
