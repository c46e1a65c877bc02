package quicrelay

// maxRefused is the greatest number of connections in a refusedTable.
const maxRefused = 1024

// refusedTable remembers the last connections that Route has refused, and their answers. A refused
// client may send further datagrams: it sends its hello again if the answer is lost, and many
// clients send a last packet after the answer. Without the table, the Relay would treat these
// datagrams as new connections.
type refusedTable struct {
	answers map[initialKey][]byte  // an answer is nil if the client gets none
	keys    [maxRefused]initialKey // a ring
	next    int
}

// add adds a connection.
func (t *refusedTable) add(key initialKey, answer []byte) {
	if t.answers == nil {
		t.answers = map[initialKey][]byte{}
	}
	delete(t.answers, t.keys[t.next])
	t.keys[t.next], t.answers[key] = key, answer
	t.next = (t.next + 1) % maxRefused
}
