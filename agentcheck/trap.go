package agentcheck

import "fmt"

// Trap is a way in which HAProxy does something else than an answer seems to ask for.
type Trap string

// The traps that Lint knows, in the words of their names.
const (
	TrapNoLineEnd      Trap = "no-line-end"      // the whole answer is ignored
	TrapTooLong        Trap = "too-long"         // the whole answer is ignored, or HAProxy ends
	TrapSecondLine     Trap = "second-line"      // what follows the first line end is ignored
	TrapUnknownWord    Trap = "unknown-word"     // the word is an error
	TrapGluedReason    Trap = "glued-reason"     // a '#' within a word makes the word an error
	TrapBadNumber      Trap = "bad-number"       // a weight or maxconn that is an error
	TrapOverridden     Trap = "overridden"       // a later word of the same kind wins
	TrapOpenSetting    Trap = "open-setting"     // what earlier answers said stays in force
	TrapForeignSetting Trap = "foreign-setting"  // overwrites what somebody else has set
	TrapNeedsVersion   Trap = "needs-version"    // an error in older versions of HAProxy
	TrapStaticBalance  Trap = "static-balance"   // the balance algorithm ignores the weight
	TrapTruncated      Trap = "weight-truncated" // a small initial weight cannot be scaled
	TrapCapped         Trap = "weight-capped"    // no weight exceeds 256
	TrapUnlimited      Trap = "unlimited"        // maxconn 0 lifts the limit
	TrapWrapped        Trap = "maxconn-wrapped"  // a negative or huge maxconn becomes another one
	TrapPersistence    Trap = "persistence"      // what happens to clients bound by a cookie
	TrapHiddenReason   Trap = "hidden-reason"    // the reason is not shown
	TrapCutReason      Trap = "cut-reason"       // the reason is shown in part
)

// Finding is one trap in one answer.
type Finding struct {
	Trap Trap
	Word string // the word it is about, "" for the answer as a whole
	Text string // what HAProxy does, and what to write instead
}

// String returns all of it on one line.
func (f Finding) String() string {
	if f.Word == "" {
		return fmt.Sprintf("%s: %s", f.Trap, f.Text)
	}
	return fmt.Sprintf("%s: %.64q: %s", f.Trap, f.Word, f.Text)
}

// Settings is a set of the settings that an answer can name.
type Settings uint8

// The settings of a Reply.
const (
	SettingState Settings = 1 << iota
	SettingAdmin
	SettingWeight
	SettingMaxConn
)

// Setup is what is known of the HAProxy and of the server for which an answer is meant. The
// zero value knows nothing; each field that is set lets Lint see more.
type Setup struct {
	// Owns are the settings that the agent is responsible for, and that every answer must
	// therefore name. 0 means SettingState|SettingAdmin|SettingWeight, and that naming others is
	// no finding.
	Owns Settings

	// Balance is the argument of HAProxy's balance, such as "leastconn" or "hdr(x-user)".
	Balance string
	// HashType is the argument of HAProxy's hash-type; "" is its default, map-based.
	HashType string

	// InitialWeight is the server's weight in HAProxy's configuration, as Absolute(100). The
	// zero value means not known; HAProxy's default is Absolute(1).
	InitialWeight Weight

	// Version is HAProxy's, such as "2.6.12".
	Version string

	// Persistence says that cookies or a stick table bind clients to servers.
	Persistence bool
}
