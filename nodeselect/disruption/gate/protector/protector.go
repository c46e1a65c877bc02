package protector

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/headgate/headgate/nodeselect/disruption/gate/keeper"
	"github.com/headgate/headgate/nodeselect/disruption/gate/protect"
)

// Tool is the interface to a program that takes nodes away. Several goroutines call Protect and
// Free at the same time, for different objects.
type Tool interface {
	// OnDemand reports whether List shows which objects the tool wants to take; see
	// protect.Settings.OnDemand.
	OnDemand() bool
	// List returns all objects that the tool can take away.
	List(context.Context) ([]protect.Subject, error)
	// Protect sets the protection of the object, so that the tool leaves it alone. Free removes the
	// protection. Both return an error if the object has changed since List.
	Protect(context.Context, protect.Subject) error
	Free(context.Context, protect.Subject) error
}

// Action is what a Protector does with an object or a grant.
type Action string

// Actions.
const (
	Protect Action = "protect"
	Free    Action = "free"
	Release Action = "release"
)

// Event is one action of a Protector.
type Event struct {
	Action Action
	// Object and Node are the names in protect.Subject. For Release, both are the name of the node.
	Object, Node string
	// Err is nil if the action succeeded. If the action failed, the next call of Step tries the
	// action again.
	Err error
}

// Status is the result of a step.
type Status struct {
	// Objects is the number of all objects. Free is the number of objects that the tool may take
	// now. Waiting is the number of objects that the tool wants to take, but must still leave
	// alone.
	Objects, Free, Waiting int
	// Unprotected is the number of objects that must be protected and are not, because Protect
	// failed.
	Unprotected int
}

// Protector protects nodes from one tool. Set the fields before the first call. Several Protectors
// with the same Holder may run at the same time.
type Protector struct {
	Keeper *keeper.Keeper // required, with a Store
	Tool   Tool           // required
	// Holder is the holder of the grants. No other program may use this name. Required.
	Holder string
	// Settings are the rules for the tool. The Protector itself sets the fields OnDemand and
	// HoldDown.
	Settings protect.Settings
	// DryRun makes the Protector change no object and make no grant. Events then show the actions
	// that it would do.
	DryRun bool
	// Event, if not nil, is called after each action. Several goroutines call it at the same time.
	Event func(Event)
}

const (
	// atOnce is the largest number of requests that run at the same time.
	atOnce = 16
	// endTimeout is how long the Protector tries to protect all nodes at the end of Run.
	endTimeout = 20 * time.Second
	// stepTimeout is how long a call of Step may take.
	stepTimeout = time.Minute
)

// Run calls Step until ctx ends; the argument "every" is the pause between two steps. It passes
// each result to the function "done", if not nil. When ctx ends, Run protects all nodes, and
// returns an error if it cannot protect them all.
func (p *Protector) Run(ctx context.Context, every time.Duration, done func(Status, error)) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for ctx.Err() == nil {
		status, err := p.Step(ctx)
		if done != nil && ctx.Err() == nil {
			done(status, err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	subjects, err := p.Tool.List(ctx)
	if err != nil {
		return fmt.Errorf("protect all nodes at the end: %w", err)
	}
	if failed := p.each(ctx, Protect, protect.All(subjects).Protect); failed > 0 {
		return fmt.Errorf("protect all nodes at the end: %d of %d objects are not protected", failed, len(subjects))
	}
	return nil
}

// Step makes one step: it lists the objects, gets grants, and changes the protection of objects. If
// it cannot decide, it protects all objects and returns an error.
func (p *Protector) Step(ctx context.Context) (Status, error) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	settings := p.Settings
	settings.OnDemand = p.Tool.OnDemand()
	subjects, err := p.Tool.List(ctx)
	if err != nil {
		return Status{}, err
	}
	settings.HoldDown = p.Keeper.HoldDown
	held, err := p.Keeper.TakeEach(ctx, p.Holder, cmp.Or(settings.Free, protect.DefaultFree), settings.Most, p.DryRun, protect.Ask(subjects, settings)...)
	plan := protect.All(subjects)
	if err == nil {
		plan = protect.Next(subjects, held, settings, time.Now())
	}
	failed := p.each(ctx, Protect, plan.Protect)
	for _, node := range plan.Release {
		p.release(ctx, node)
	}
	notFreed := p.each(ctx, Free, plan.Free)
	status := Status{Objects: len(subjects), Waiting: plan.Waiting, Unprotected: failed}
	for _, x := range subjects {
		if !x.Protected && !x.Taken {
			status.Free++
		}
	}
	status.Free += len(plan.Free) - notFreed - len(plan.Protect)
	return status, err
}

// Remove removes the protection of all objects, and ends all grants of the Holder. Afterwards, the
// tool may take any node.
func (p *Protector) Remove(ctx context.Context) error {
	subjects, err := p.Tool.List(ctx)
	if err != nil {
		return err
	}
	var ours []protect.Subject
	for _, x := range subjects {
		if x.Protected && x.Ours {
			ours = append(ours, x)
		}
	}
	if failed := p.each(ctx, Free, ours); failed > 0 {
		return fmt.Errorf("%d of %d objects are still protected", failed, len(ours))
	}
	grants, err := p.Keeper.Store.List(ctx)
	for _, g := range grants {
		if g.Holder == p.Holder {
			err = errors.Join(err, p.release(ctx, g.Node))
		}
	}
	return err
}

// The method "each" protects or frees every subject, as the argument "action" says. It returns the
// number of subjects for which the action failed.
func (p *Protector) each(ctx context.Context, action Action, subjects []protect.Subject) (failed int) {
	do := p.Tool.Protect
	if action == Free {
		do = p.Tool.Free
	}
	var mu sync.Mutex
	var group errgroup.Group
	group.SetLimit(atOnce)
	for _, x := range subjects {
		group.Go(func() error {
			var err error
			if !p.DryRun {
				err = do(ctx, x)
			}
			if err != nil {
				mu.Lock()
				failed++
				mu.Unlock()
			}
			p.event(Event{Action: action, Object: x.Object, Node: x.Node, Err: err})
			return nil
		})
	}
	_ = group.Wait()
	return failed
}

func (p *Protector) release(ctx context.Context, node string) (err error) {
	if !p.DryRun {
		_, err = p.Keeper.Release(ctx, node, p.Holder)
	}
	p.event(Event{Action: Release, Object: node, Node: node, Err: err})
	return err
}

func (p *Protector) event(e Event) {
	if p.Event != nil {
		p.Event(e)
	}
}
