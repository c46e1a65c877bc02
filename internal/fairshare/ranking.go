package fairshare

// ranking is a heap of sources, with the heaviest first. Among sources of equal weight, the source
// whose oldest waiting connection has waited for longest comes first. A ranking implements
// heap.Interface.
type ranking[T Member[T]] struct {
	which   int // the index in source.index
	weight  func(*source[T]) int
	sources []*source[T]
}

// top returns the heaviest source, or nil if the ranking is empty.
func (r *ranking[T]) top() *source[T] {
	if len(r.sources) == 0 {
		return nil
	}
	return r.sources[0]
}

func (r *ranking[T]) Len() int { return len(r.sources) }

func (r *ranking[T]) Less(i, j int) bool {
	a, b := r.sources[i], r.sources[j]
	if x, y := r.weight(a), r.weight(b); x != y {
		return x > y
	}
	var none T
	first, second := a.lists[waiting].first, b.lists[waiting].first
	if first == none || second == none {
		return first != none && second == none
	}
	// The value of the field "since" comes from a counter that begins again at 0 after its largest
	// value. Even if the counter has begun again between two values, the sign of their difference
	// says which connection is older.
	return int32(first.ShareEntry().since-second.ShareEntry().since) < 0
}

func (r *ranking[T]) Swap(i, j int) {
	r.sources[i], r.sources[j] = r.sources[j], r.sources[i]
	r.sources[i].index[r.which], r.sources[j].index[r.which] = i, j
}

func (r *ranking[T]) Push(x any) {
	s := x.(*source[T])
	s.index[r.which] = len(r.sources)
	r.sources = append(r.sources, s)
}

func (r *ranking[T]) Pop() any {
	last := len(r.sources) - 1
	s := r.sources[last]
	r.sources[last] = nil
	r.sources = r.sources[:last]
	s.index[r.which] = -1
	return s
}

// list is a doubly linked list of connections. The links are in the connections, so the list needs
// no memory of its own.
type list[T Member[T]] struct {
	first, last T
	n           int
}

func (l *list[T]) add(m T) {
	var none T
	e := m.ShareEntry()
	e.prev, e.next = l.last, none
	if l.last != none {
		l.last.ShareEntry().next = m
	} else {
		l.first = m
	}
	l.last = m
	l.n++
}

func (l *list[T]) remove(m T) {
	var none T
	e := m.ShareEntry()
	if e.prev != none {
		e.prev.ShareEntry().next = e.next
	} else {
		l.first = e.next
	}
	if e.next != none {
		e.next.ShareEntry().prev = e.prev
	} else {
		l.last = e.prev
	}
	e.prev, e.next = none, none
	l.n--
}
