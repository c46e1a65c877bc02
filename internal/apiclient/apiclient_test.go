package apiclient

import (
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		value, date string
		want        time.Duration
	}{
		{"", "", 0},
		{"120", "", 2 * time.Minute},
		{" 120 ", "", 2 * time.Minute},
		{"0", "", 0},
		{"-1", "", 0},
		{"soon", "", 0},
		{"99999999999999999999", "", MaxSeconds * time.Second},
		{"Fri, 01 May 2026 12:01:00 GMT", "", time.Minute},
		{"Fri, 01 May 2026 11:59:00 GMT", "", 0},
		{"Fri, 01 May 2026 12:01:00 GMT", "Fri, 01 May 2026 12:00:30 GMT", 30 * time.Second},
	} {
		h := http.Header{}
		h.Set("Retry-After", test.value)
		h.Set("Date", test.date)
		require.Equal(t, test.want, RetryAfter(h, now), "%q", test.value)
	}
}

func FuzzParseSeconds(f *testing.F) {
	f.Fuzz(func(t *testing.T, s string) {
		n, ok := ParseSeconds(s)
		if n < 0 || n > MaxSeconds {
			t.Fatalf("%q is %d", s, n)
		}
		if m, err := strconv.ParseInt(s, 10, 64); ok && err == nil && m <= MaxSeconds && m != n {
			t.Fatalf("%q is %d", s, n)
		}
	})
}
