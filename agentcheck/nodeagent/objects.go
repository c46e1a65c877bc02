package nodeagent

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/headgate/headgate/nodeselect"
)

// objectsFeed sees a cluster whose objects are handed to it all at once.
type objectsFeed struct {
	rules  Rules
	follow func(ctx context.Context, changed func(nodeselect.Objects, []nodeselect.Problem)) error

	mu       sync.Mutex
	whole    bool
	objects  nodeselect.Objects
	problems []nodeselect.Problem
	last     time.Time
}

func (f *objectsFeed) run(ctx context.Context, poke func()) error {
	return f.follow(ctx, func(objects nodeselect.Objects, problems []nodeselect.Problem) {
		f.mu.Lock()
		f.whole, f.objects, f.problems, f.last = true, objects, problems, time.Now()
		f.mu.Unlock()
		poke()
	})
}

func (f *objectsFeed) view() (view, []nodeselect.Problem, bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.rules.view(f.objects), f.problems, f.whole, nil
}

func (f *objectsFeed) recount() {} // every view has all nodes

func (f *objectsFeed) contact() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last
}

func (f *objectsFeed) missing(_ view, node string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return fmt.Errorf("%w: %q; there are %s", ErrNoNode, node, nodeNames(f.objects))
}
