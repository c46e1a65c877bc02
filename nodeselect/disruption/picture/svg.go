package picture

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"strconv"

	"github.com/headgate/headgate/nodeselect/disruption"
)

// Sizes in pixels.
const (
	marginLeft  = 230 // names of services
	header      = 84
	bars        = 90 // height of the bars above the columns
	gap         = 6
	columnsMost = 1100 // width of all columns
	groupsMost  = 420  // width of the columns of nodes that are away, asked for or in the wave
	rowsMost    = 820  // height of all rows
	largestCell = 18
	countsMost  = 110 // width of the bars beside the rows
	panel       = 330 // width of the list of blocked services
	textHeight  = 9   // the smallest height of a row with a name
	nameLength  = 36
)

// layout contains the positions of the columns and rows in the picture.
type layout struct {
	*chart
	x          []float64 // left edge of each column
	width      [classes]float64
	right      float64 // right edge of the columns
	top        float64 // of the first row
	row        float64 // height of a row
	bottom     float64 // of the last row
	largest    int     // load of the busiest node
	mostGone   int     // largest service.gone
	out        bytes.Buffer
	totalWidth float64
}

// SVG returns the picture. The result depends only on the fields of p. The SVG has about 10 bytes
// for each member of a service, and 150 bytes for each node and each service.
func (p Picture) SVG() []byte {
	l := newLayout(p.chart())
	height := max(l.bottom, l.top+float64(min(len(p.Blocked), maxListed)+3)*16) + 30
	l.printf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" width="%.0f" height="%.0f" role="img" font-family="sans-serif" font-size="12">`,
		l.totalWidth, height, l.totalWidth, height)
	title := p.Title
	if title == "" {
		title = "Which nodes may go now"
	}
	l.printf("<title>%s</title>\n", escape(title))
	l.printf(`<rect width="100%%" height="100%%" fill="#ffffff"/>` + "\n")
	l.text(16, 24, `font-size="18" font-weight="bold"`, title)
	l.text(16, 44, `fill="#555555"`, l.summary())
	l.legend()
	l.loads()
	l.rows()
	l.list(p.Blocked)
	l.printf("</svg>\n")
	return l.out.Bytes()
}

func newLayout(c *chart) *layout {
	l := &layout{chart: c, top: header + bars + gap + 14}
	grouped := c.size[away] + c.size[named] + c.size[wave]
	rest := c.size[blocked] + c.size[other]
	wide := min(largestCell, groupsMost/float64(max(grouped, 1)))
	narrow := min(largestCell, (columnsMost-wide*float64(grouped))/float64(max(rest, 1)))
	wide = max(wide, narrow)
	x := float64(marginLeft)
	for i, n := range c.nodes {
		if i > 0 && c.nodes[i-1].class != n.class {
			x += gap
		}
		w := wide
		if n.class >= blocked {
			w = narrow
		}
		l.width[n.class] = w
		l.x = append(l.x, x)
		x += w
		l.largest = max(l.largest, n.load)
	}
	l.right = x
	if room := l.longestName(); len(c.nodes) > 0 && narrow >= textHeight {
		l.top += room // room for the names of nodes
	}
	l.row = min(largestCell, rowsMost/float64(max(len(c.services), 1)))
	l.bottom = l.top + l.row*float64(len(c.services))
	for i := range c.services {
		l.mostGone = max(l.mostGone, c.services[i].gone())
	}
	l.totalWidth = l.right + gap + countsMost + 20 + panel
	return l
}

// longestName returns the height that the longest name of a node needs. The names are vertical.
func (l *layout) longestName() float64 {
	longest := 0
	for _, n := range l.nodes {
		longest = max(longest, len([]rune(shorten(n.name))))
	}
	return float64(longest) * 6.5
}

func (l *layout) printf(format string, args ...any) { fmt.Fprintf(&l.out, format, args...) }

// text writes a text. attributes are further attributes of the element, or empty.
func (l *layout) text(x, y float64, attributes, text string) {
	l.printf(`<text x="%s" y="%s" %s>%s</text>`+"\n", number(x), number(y), attributes, escape(text))
}

// legend draws a legend above the picture: for each class of nodes, its colour, its name and the
// number of its nodes.
func (l *layout) legend() {
	x := 16.0
	for class := range classes {
		if l.size[class] == 0 {
			continue
		}
		text := fmt.Sprintf("%s: %d", labels[class], l.size[class])
		l.printf(`<rect x="%s" y="56" width="12" height="12" fill="%s"/>`, number(x), colours[class])
		l.text(x+17, 67, "", text)
		x += 17 + float64(len(text))*6.6 + 20
	}
}

// loads writes a bar for each node. The height of a bar is the number of services of the node.
func (l *layout) loads() {
	base := float64(header + bars)
	scale := bars / float64(max(l.largest, 1))
	l.text(marginLeft-8, header+10, `text-anchor="end" fill="#555555"`, count(l.largest, "service"))
	l.text(marginLeft-8, base, `text-anchor="end" fill="#555555"`, "services of each node")
	for i, n := range l.nodes {
		w := l.width[n.class]
		height := float64(n.load) * scale
		l.printf(`<rect x="%s" y="%s" width="%s" height="%s" fill="%s"><title>%s</title></rect>`+"\n",
			number(l.x[i]), number(base-height), number(w*0.95), number(height), colours[n.class], escape(n.describe()))
		if w >= textHeight && l.top > header+bars+gap+14 {
			l.printf(`<text transform="translate(%s %s) rotate(-90)" font-size="%s">%s</text>`+"\n",
				number(l.x[i]+w/2+4), number(l.top-4), number(min(w, 11)), escape(shorten(n.name)))
		}
	}
}

func (n node) describe() string {
	text := fmt.Sprintf("%s: %s, %s", n.name, count(n.load, "service"), labels[n.class])
	if n.zone != "" {
		text += ", zone " + n.zone
	}
	return text
}

// rows draws one row for each service. A row has a mark for each node of the service, and a bar.
// The length of the bar is the number of nodes of the service that are away, that the operator's
// question names ("asked for"), or that are in the wave.
func (l *layout) rows() {
	if n := l.blocked(); n > 0 {
		l.printf(`<rect x="%d" y="%s" width="%s" height="%s" fill="#fdf0c4"/>`+"\n",
			marginLeft, number(l.top), number(l.right-marginLeft), number(max(1, l.row*float64(n))))
	}
	l.printf(`<rect x="%d" y="%s" width="%s" height="%s" fill="none" stroke="#cccccc"/>`+"\n",
		marginLeft, number(l.top), number(l.right-marginLeft), number(l.bottom-l.top))
	first := 0
	for class := range classes {
		l.marks(class, first)
		first += l.size[class]
	}
	if l.row < textHeight {
		l.text(marginLeft-8, l.top+12, `text-anchor="end" fill="#555555"`, count(len(l.services), "service"))
	}
	x := l.right + gap
	if l.mostGone > 0 {
		l.text(x, l.top-6, `fill="#555555"`, "nodes gone or going")
	}
	unit := countsMost / float64(max(l.mostGone, 4))
	for i := range l.services {
		s := &l.services[i]
		y := l.top + float64(i)*l.row
		if l.row >= textHeight {
			l.text(marginLeft-8, y+l.row*0.75, fmt.Sprintf(`text-anchor="end" font-size="%s"`, number(min(l.row, 12))), shorten(s.name))
		}
		l.printf(`<g shape-rendering="crispEdges"><title>%s</title>`, escape(s.describe()))
		left := x
		for class := away; class <= wave; class++ {
			if s.count[class] > 0 {
				width := float64(s.count[class]) * unit
				l.printf(`<rect x="%s" y="%s" width="%s" height="%s" fill="%s"/>`, number(left), number(y), number(width), number(l.row), colours[class])
				left += width
			}
		}
		l.printf("</g>\n")
	}
	for i := 1; i <= l.mostGone; i++ { // lines between the units
		l.printf(`<path d="M%s %sV%s" stroke="#ffffff"/>`, number(x+float64(i)*unit), number(l.top), number(l.bottom))
		l.text(x+float64(i)*unit-unit/2-3, l.bottom+15, `fill="#555555"`, strconv.Itoa(i))
	}
}

// marks draws, as one SVG path, the marks of all nodes of one class. Each mark stands for a pair of
// a service (row) and a node of its subset (column). first is the number of the first column of the
// class.
//
// In the coordinates of the path, a column is 1 wide and a row is 1 high. So the path contains only
// short numbers.
func (l *layout) marks(class class, first int) {
	if l.size[class] == 0 {
		return
	}
	// height is the height of a mark, in rows. In a large picture, a mark is higher than its row,
	// because the row is too thin to be visible.
	height := max(0.9, 0.8/l.row)
	if class <= wave {
		height = max(0.9, 2/l.row)
	}
	l.printf(`<path transform="translate(%s %s) scale(%s %s)" stroke="%s" stroke-width="%s" d="`,
		number(l.x[first]), number(l.top+l.row/2), number(l.width[class]), number(l.row), colours[class], number(height))
	for i := range l.services {
		for _, m := range l.services[i].members {
			if l.nodes[m].class == class {
				l.out.WriteByte('M')
				l.out.Write(strconv.AppendInt(l.out.AvailableBuffer(), int64(m-first), 10))
				l.out.WriteByte(' ')
				l.out.Write(strconv.AppendInt(l.out.AvailableBuffer(), int64(i), 10))
				l.out.WriteString("h.9")
			}
		}
	}
	l.printf("\"/>\n")
}

func (s *service) describe() string {
	text := s.name + ": " + count(len(s.members), "node")
	for class := away; class <= wave; class++ {
		if s.count[class] > 0 {
			text += fmt.Sprintf(", %d %s", s.count[class], labels[class])
		}
	}
	for _, b := range s.blocked {
		text += "; " + b.String()
	}
	return text
}

// maxListed is the largest number of limits that the picture lists under the title "What blocks".
const maxListed = 40

// list writes, next to the picture, the limits that permit no further node to be away.
func (l *layout) list(list []disruption.Blocked) {
	x := l.right + gap + countsMost + 20
	y := l.top + 8
	if len(list) == 0 {
		return
	}
	l.text(x, y, `font-weight="bold"`, "What blocks")
	for i, b := range list {
		y += 16
		if i == maxListed {
			l.text(x, y, `fill="#555555"`, fmt.Sprintf("and %d more", len(list)-maxListed))
			return
		}
		l.printf(`<g><title>%s</title>`, escape(b.String()))
		l.text(x, y, `font-size="11"`, shortBlocked(b))
		l.printf("</g>\n")
	}
}

// shortBlocked returns the same facts as b.String in fewer words.
func shortBlocked(b disruption.Blocked) string {
	of := fmt.Sprintf("%d of %d away", b.Away, b.Limit)
	switch b.Rule {
	case disruption.RuleOneZone:
		return fmt.Sprintf("one zone at a time: %d away in %s", b.Away, shorten(b.Zone))
	case disruption.RuleShare:
		return "all nodes: " + of
	case disruption.RuleZone:
		return shorten(b.Service) + " in " + shorten(b.Zone) + ": " + of
	default:
		return shorten(b.Service) + ": " + of
	}
}

// shorten cuts long names.
func shorten(s string) string {
	if r := []rune(s); len(r) > nameLength {
		return string(r[:nameLength-1]) + "…"
	}
	return s
}

// number formats a number of pixels with at most two decimals.
func number(f float64) string {
	const precision = 1000
	return strconv.FormatFloat(float64(int(f*precision+0.5))/precision, 'f', -1, 64)
}

// escape escapes a text, and replaces characters that XML does not allow.
func escape(s string) string {
	var b bytes.Buffer
	_ = xml.EscapeText(&b, []byte(s)) // a bytes.Buffer returns no error
	return b.String()
}
