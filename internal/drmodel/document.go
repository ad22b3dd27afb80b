package drmodel

import (
	"fmt"
	"slices"
	"strings"
)

// stepDocs says for the document what each step is.
var stepDocs = []struct{ name, text string }{
	{"write", "a host's write is acknowledged"},
	{"send", "the source cuts a point and sends it"},
	{"commit", "the point arrives, is proved by its root hash, and is committed; refused below the known epoch"},
	{"hear", "the source asks what is committed; of a recovery it hears by the refusal"},
	{"fail over", "somebody asks for a planned failover; writes stop"},
	{"drained", "the destination has confirmed all"},
	{"drain late", "the last point is not confirmed in time"},
	{"recovered meanwhile", "the volume was recovered by force elsewhere while it drained"},
	{"order", "the destination is asked to take over, and answers"},
	{"late order", "the same, and the answer is lost or the order came late"},
	{"silence", "the destination does not answer in time, or refuses"},
	{"ask to leave", "the destination is asked to say that it did not take over and never will"},
	{"late leave", "the same, and the answer is lost or the order came late"},
	{"bid", "a zone is about to recover the volume by force, and writes an epoch down above all it knows of"},
	{"grant", "a third zone is asked: it grants the bid in writing, names a higher one, or refuses, since it took the " +
		"volume over or is about to"},
	{"late grant", "it is granted, and the answer is lost"},
	{"give up", "a bid that is not granted is withdrawn"},
	{"recover", "third zones have granted it, or an operator answers for who is silent; the epoch rises, unless a " +
		"higher bid was granted here meanwhile"},
	{"take over", "the destination's volume is filled and becomes available; in a planned failover the epoch rises now"},
	{"take over untold", "the same, by force, and the volume's zone is asked in vain to stop writing: it does not " +
		"answer in time"},
	{"fail", "the destination's volume can't be filled"},
	{"tell", "a zone reaches, or is reached by, one that took a volume over: its own volume is fenced; of two that " +
		"took it over the lower epoch becomes stale; a third one refuses points of lower epochs"},
	{"compare", "what only the stale volume has is found and kept as a snapshot"},
	{"ask", "a zone that started asks a peer which of its volumes were recovered there"},
	{"drill", "a drill opens a clone of the newest point"},
	{"end drill", "its clone is deleted"},
	{"delete", "the owner deletes a volume that lives elsewhere"},
	{"kill", "a zone dies"},
	{"start", "it is started again; exports wait for the peers' answers"},
	{"cut", "the link between two zones is cut"},
	{"mend", "and mended"},
}

const diagram = `
The right to write one volume, in two zones. Epochs are in brackets.

      zone A                                             zone B
      primary [1]  --- send, commit, hear --->           replica of it, points
         |                                                  |
         | fail over: writes stop                           |
         v                                                  |
      draining                                              |
         | drained: B has confirmed all                     |
         v                                                  v
      promoting    --- order --->                        filling
         |  |                                               | take over, in one transaction
         |  | silence, or refused                           v
         |  v                                            primary [2]
         | returning  --- ask to leave --->                 |
         |  |  \                                            |
         |  |   "not, and never will": back, primary [1]    |
         v  v                                               |
      done: stale [1]  <--- tell ---------------------------+
         | compare: what only A has is kept as a snapshot   |
         v                                                  v
      stale, kept      <--- send, commit, hear ---       replicates to A: the way back

      A is lost:                                         recover, by force: bid [2], which third
                                                            | zones grant or refuse
                                                            v
                                                         filling [2]
         returns: asks B before it serves                   | A is told if it can be reached
      stale [1]        <--- tell ----------------------- primary [2]

      B and C have both taken it over, since an operator answered for who was silent:
                                                         the lower epoch hears of the higher: stale
`

// Heading begins the model's part of docs/states.md.
const Heading = "## Disaster recovery\n"

// Document draws what an exploration saw as Markdown; the end of docs/states.md
// is its output.
func Document(seen map[Change]bool) string {
	var b strings.Builder
	b.WriteString(Heading + "\nDrawn by a test from the states that internal/drmodel visits, all that can be " +
		"reached within its bounds; do not edit.\n```" + diagram + "```\n")
	b.WriteString("\n| step | what happens |\n|---|---|\n")
	for _, d := range stepDocs {
		fmt.Fprintf(&b, "| %s | %s |\n", d.name, d.text)
	}
	drawChanges(&b, seen, "role", "What a volume is in its zone")
	drawChanges(&b, seen, "phase", "A planned failover, in the zone that is left")
	drawChanges(&b, seen, "row", "A planned failover, in the zone that takes over")
	return b.String()
}

func drawChanges(b *strings.Builder, seen map[Change]bool, of, title string) {
	fmt.Fprintf(b, "\n### %s\n\n| from | step | to |\n|---|---|---|\n", title)
	var lines []string
	for c := range seen {
		if c.Of == of {
			lines = append(lines, fmt.Sprintf("| %s | %s | %s |\n", c.From, c.Step, c.To))
		}
	}
	slices.Sort(lines)
	b.WriteString(strings.Join(lines, ""))
}
