// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package prober

import (
	"bufio"
	"fmt"
	"os"
	"strings"
)

// Note is why a receiver wrote a request down.
type Note string

// The notes. Requests that were refused, with a good signature, are not written down.
const (
	NoteTaken     Note = "taken"     // answered with success
	NoteForgotten Note = "forgotten" // taken in, but the answer was never sent
	NoteForged    Note = "forged"    // no key of the endpoint had signed it
	NoteTest      Note = "test"
)

// Arrival is one line of a receiver's ledger.
type Arrival struct {
	Note Note
	// Path of the URL: it names the endpoint.
	Path    string
	EventID string
	UID     string // the producer's name of the event
	Sum     string // of the body
	Newest  bool   // signed with the newest key that the receiver knew
}

// line is written by one write, so that lines never mix and none is half there unless the disk is full.
func (a Arrival) line() []byte {
	return fmt.Appendf(nil, "%s\t%s\t%s\t%s\t%s\t%t\n", a.Note, a.Path, a.EventID, a.UID, a.Sum, a.Newest)
}

func parseArrival(line string) (Arrival, error) {
	fields := strings.Split(line, "\t")
	if len(fields) != 6 {
		return Arrival{}, fmt.Errorf("ledger line with %d fields", len(fields))
	}
	return Arrival{Note(fields[0]), fields[1], fields[2], fields[3], fields[4], fields[5] == "true"}, nil
}

func readLedger(path string) ([]Arrival, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var all []Arrival
	for lines := bufio.NewScanner(file); ; {
		if !lines.Scan() {
			return all, lines.Err()
		}
		a, err := parseArrival(lines.Text())
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		all = append(all, a)
	}
}
