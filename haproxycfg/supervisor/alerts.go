package supervisor

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/headgate/headgate/internal/haproxyproc"
)

// alertPatience is the longest time that addTo waits for an alert. When HAProxy before 2.7 refuses
// a reload, it first prints the reason to its standard error, and then answers the reload command.
// But this process may read the answer before it reads the printed reason.
const alertPatience = 500 * time.Millisecond

// alerts collects the messages with the severity ALERT that HAProxy prints. The method "forget"
// drops the messages that alerts has collected so far.
type alerts struct {
	mu      sync.Mutex
	output  strings.Builder
	arrived chan struct{} // closed by the first alert; nil if nobody waits
}

// maxAlertBytes is the largest length of the text of alerts.
const maxAlertBytes = 4 << 10

func (a *alerts) forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.output.Reset()
}

func (a *alerts) read(line string) {
	if !strings.HasPrefix(line, "[ALERT]") {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if room := maxAlertBytes - a.output.Len(); room > 0 {
		a.output.WriteString(line[:min(len(line), room)] + "\n")
	}
	if a.arrived != nil {
		close(a.arrived)
		a.arrived = nil
	}
}

func (a *alerts) list() (texts []string, arrived <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if texts = haproxyproc.Alerts(a.output.String()); len(texts) > 0 {
		return texts, nil
	}
	if a.arrived == nil {
		a.arrived = make(chan struct{})
	}
	return nil, a.arrived
}

// addTo adds the alerts to an error, unless the error already contains them. If there is no alert
// yet, addTo waits for one, at most for alertPatience.
func (a *alerts) addTo(ctx context.Context, err error) error {
	texts, arrived := a.list()
	if len(texts) == 0 {
		select {
		case <-arrived:
		case <-ctx.Done():
		case <-time.After(alertPatience):
		}
		texts, _ = a.list()
	}
	var more []string
	for _, text := range texts {
		// Package deploy writes the position of a fault in another form than HAProxy. So compare
		// only the text after the position.
		if !strings.Contains(err.Error(), text[strings.LastIndex(text, " : ")+1:]) {
			more = append(more, text)
		}
	}
	if len(more) == 0 {
		return err
	}
	return fmt.Errorf("%w; HAProxy says: %s", err, strings.Join(more, "; "))
}
