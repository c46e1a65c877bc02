package controller

import (
	"errors"
	"fmt"
	"net/http"
	"path/filepath"

	"github.com/headgate/headgate/internal/inputfile"
)

// ReportHandler returns a handler of GET /report.json, the report in the directory. Its clusters
// and services are those of the configuration that HAProxy runs. So a client knows all nodes that
// receive new requests, but old workers may still have connections to other nodes.
//
// The status is 503 while the report and HAProxy may differ: before the first attempt, while an
// attempt changes HAProxy, while a change waits for its reload, after an attempt that failed
// halfway, and while another process leads.
func (c *Controller) ReportHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /report.json", func(w http.ResponseWriter, _ *http.Request) {
		err := c.status.reportInForce()
		var data []byte
		if err == nil {
			data, err = inputfile.Read(filepath.Join(c.Dir.Path, ReportFile), maxReport)
		}
		if err == nil {
			err = c.status.reportInForce() // an attempt may have begun while the file was read
		}
		if err != nil {
			w.Header().Set("Retry-After", "2")
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		w.Write(data)
	})
	return mux
}

// reportInForce returns nil if HAProxy runs the configuration that the report in the directory
// describes. Otherwise it returns the reason why this is not certain, for example that a change is
// being applied.
func (s *status) reportInForce() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !s.now.Leading && s.now.Leader != "":
		return fmt.Errorf("another process leads: %s", s.now.Leader)
	case !s.now.Leading:
		return errors.New("another process leads")
	case s.changing:
		return errors.New("a change is being applied")
	case s.torn:
		return fmt.Errorf("a change was applied in part: %w", s.now.Err)
	case s.now.Waiting != nil:
		return fmt.Errorf("a change waits: %w", s.now.Waiting)
	case !s.now.InForce || s.now.Outcome == "":
		return errors.New("no configuration is in force yet")
	}
	return nil
}
