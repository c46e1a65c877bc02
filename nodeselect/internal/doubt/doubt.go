// Package doubt decides which lists of an API server are doubtful. It also decides how long the
// objects that are missing in a doubtful list stay.
//
// An API server that has lost its store sends an empty list, and so may the wrong API server behind
// a proxy. Such a list must not remove all servers of HAProxy. So the missing objects stay until
// the API server reports them again, or has answered for [ConfirmAfter] without reporting them.
package doubt

import (
	"fmt"
	"time"
)

// ConfirmAfter is the time for which an API server must keep answering before the objects that a
// doubtful list lacks are removed.
const ConfirmAfter = 5 * time.Minute

// Lossy reports whether a new list is doubtful, because it lacks more than half of the known
// objects. gains is the number of new objects that may have replaced missing objects, as new pods
// replace old pods. If objects cannot replace each other, pass 0.
func Lossy(known, lacks, gains int) bool { return 2*(lacks-gains) > known }

// Doubt holds the objects that a doubtful list lacks. The zero value has no objects. A Doubt uses
// no clock and no lock.
type Doubt[K comparable] struct {
	missing map[K]bool // nil if no list is in doubt
	known   int        // number of objects that were known when the doubtful list arrived
	lacks   int
	since   time.Time // the start of ConfirmAfter
	empty   bool      // the doubtful list was empty, so ConfirmAfter has not begun
}

// Begin records a doubtful list. known is the number of objects before the list. lacking contains
// the objects that are missing in the list; Begin keeps this map. empty is true if the list
// contains no object.
//
// The time ConfirmAfter starts with the first doubtful list. If this list and the lists after it
// are empty, the time starts again with the first doubtful list that is not empty.
func (d *Doubt[K]) Begin(known int, lacking map[K]bool, empty bool, now time.Time) {
	if d.missing == nil || d.empty && !empty {
		d.since = now
	}
	d.missing, d.empty = lacking, empty
	d.known, d.lacks = known, len(lacking)
}

// Clear ends the doubt: it forgets all missing objects. It reports whether there was a doubt.
func (d *Doubt[K]) Clear() bool {
	was := d.missing != nil
	*d = Doubt[K]{}
	return was
}

// Seen notes that the API server has reported an object, so the object is no longer missing. If no
// other object is missing, Seen ends the doubt and returns true.
func (d *Doubt[K]) Seen(key K) bool {
	delete(d.missing, key)
	return len(d.missing) == 0 && d.Clear()
}

// Appeared tells the Doubt that the API server has reported an object. If the last list of the API
// server was empty, the time ConfirmAfter, after which missing objects are removed, begins now, and
// Appeared returns true. Otherwise Appeared changes nothing and returns false.
func (d *Doubt[K]) Appeared(now time.Time) bool {
	if !d.empty {
		return false
	}
	d.empty, d.since = false, now
	return true
}

// Answered tells the Doubt that the API server answers again after a failure. If the time
// ConfirmAfter has begun, it begins again now, and Answered returns true. Otherwise Answered changes
// nothing and returns false. ConfirmAfter has not begun if no object is missing, or if the doubtful
// list was empty; see Appeared.
func (d *Doubt[K]) Answered(now time.Time) bool {
	if d.missing == nil || d.empty {
		return false
	}
	d.since = now
	return true
}

// Confirmed returns the missing objects if ConfirmAfter has passed, and nil otherwise. The caller
// removes these objects. After an empty list, Confirmed returns nil until the API server has an
// object again; see Appeared.
func (d *Doubt[K]) Confirmed(now time.Time) map[K]bool {
	if d.missing == nil || d.empty || now.Sub(d.since) < ConfirmAfter {
		return nil
	}
	return d.missing
}

// Missing returns the objects that the last doubtful list lacks and that the API server has not
// reported since. It returns nil if there is no doubtful list. The caller must not change the map.
func (d *Doubt[K]) Missing() map[K]bool { return d.missing }

// Err returns an error while there is a doubt, that is, while objects are missing. Its text begins
// with the argument "what". Without a doubt, Err returns nil.
func (d *Doubt[K]) Err(what string) error {
	if d.missing == nil {
		return nil
	}
	kept := "while the API server has no objects (since " + d.since.UTC().Format(time.RFC3339) + ")"
	if !d.empty {
		kept = "until " + d.since.Add(ConfirmAfter).UTC().Format(time.RFC3339)
	}
	return fmt.Errorf("%s: a list lacks %d of %d; they are kept %s", what, d.lacks, d.known, kept)
}
