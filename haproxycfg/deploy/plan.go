package deploy

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/internal/atomicfile"
)

// ErrStalePlan is wrapped by the error of [Plan.Apply] when the directory holds another
// configuration than it did when the plan was made: what the plan's Diff says is no
// longer true.
var ErrStalePlan = errors.New("deploy: the directory holds another configuration than when the plan was made")

// Plan is a configuration, rendered for a directory, and what it changes there. It is
// for those who look before they leap, and costs less than [Dir.Diff] and [Dir.Apply]
// one after the other.
type Plan struct {
	// Diff is what Dir.Diff gives, without its Text.
	Diff Diff

	dir    *Dir
	config *haproxycfg.Config
	before []byte // haproxy.cfg
	after  []haproxycfg.RenderedFile
}

// Plan renders c and compares it with what the directory holds. It changes nothing. c
// must not change until the plan has been applied.
func (d *Dir) Plan(c *haproxycfg.Config) (*Plan, error) {
	after, err := d.render(c)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	before, err := d.current()
	if err != nil {
		return nil, fmt.Errorf("deploy: plan: %w", err)
	}
	p := &Plan{dir: d, config: c, after: after}
	if n := len(before); n > 0 {
		p.before = before[n-1].Data
	}
	p.Diff, _, _ = diffFiles(before, after)
	return p, nil
}

// ID names the configuration of the plan: the same files in the same directory have
// the same ID, and no others have.
func (p *Plan) ID() string {
	// Names of maps have a hash of their content in them.
	sum := sha256.Sum256(p.after[len(p.after)-1].Data)
	return hex.EncodeToString(sum[:8])
}

// Apply does what [Dir.Apply] does, and then, in the same hold of the directory's
// lock, puts the files of beside in place that are not there already. They say
// something of the configuration and are only written if it is in force, whether it
// is new or was there before; a process that ends in between leaves this to the next
// Apply. Their names are relative to the directory; none of them may be one of its
// own.
//
// changed tells whether the directory holds another configuration or another file of
// beside than before. A plan may be applied several times.
func (p *Plan) Apply(ctx context.Context, beside ...haproxycfg.RenderedFile) (changed bool, err error) {
	return p.dir.locked(ctx, func() (bool, error) {
		moved, err := p.moved()
		if err != nil {
			return false, fmt.Errorf("deploy: apply: %w", err)
		}
		if moved {
			return false, fmt.Errorf("deploy: apply: %w", ErrStalePlan)
		}
		changed, err := p.dir.apply(ctx, p.config, p.after)
		if err != nil {
			return changed, err
		}
		wrote, err := p.dir.writeAuxiliary(beside)
		return changed || wrote, err
	})
}

// moved tells whether the directory holds neither what it held when the plan was made
// nor what the plan would write, which is no surprise either.
func (p *Plan) moved() (bool, error) {
	file := p.dir.file(configFile)
	if p.before == nil && !exists(file) {
		return false, nil
	}
	for _, known := range [][]byte{p.before, p.after[len(p.after)-1].Data} {
		if known == nil {
			continue
		}
		if there, err := hasContent(file, known); there || err != nil {
			return false, err
		}
	}
	return true, nil
}

// WriteAuxiliary puts files in place that say something of the configuration in force,
// under the directory's lock, and leaves the configuration alone. changed tells
// whether any of them was written.
func (d *Dir) WriteAuxiliary(ctx context.Context, beside ...haproxycfg.RenderedFile) (changed bool, err error) {
	return d.locked(ctx, func() (bool, error) { return d.writeAuxiliary(beside) })
}

func (d *Dir) writeAuxiliary(files []haproxycfg.RenderedFile) (changed bool, err error) {
	for _, f := range files {
		if err := d.at("write " + f.Name); err != nil {
			return changed, fmt.Errorf("deploy: apply: %w", err)
		}
		wrote, err := atomicfile.Update(d.file(f.Name), f.Data, d.mode())
		changed = changed || wrote
		if err != nil {
			return changed, fmt.Errorf("deploy: apply: the configuration is in force, but: %w", err)
		}
	}
	return changed, nil
}
