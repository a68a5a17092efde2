// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
)

// Line is what a case came to.
type Line struct {
	Case string `json:"case"`
	// Pairs is of how many runs the figures are the medians.
	Pairs int  `json:"pairs"`
	Quick bool `json:"quick"`
	// Events, Endpoints and BodyBytes are the size of one run.
	Events    int     `json:"events"`
	Endpoints int     `json:"endpoints"`
	BodyBytes int     `json:"bodyBytes"`
	Figures   Figures `json:"figures"`
}

func lineOf(c Case, o Settings, f Figures) Line {
	return Line{Case: c.Name, Pairs: o.Pairs, Quick: o.Quick, Events: c.Events, Endpoints: c.Endpoints(), BodyBytes: c.BodyBytes, Figures: f}
}

// JSON is the line as one.
func (l Line) JSON() string {
	content, err := json.Marshal(l)
	if err != nil {
		panic(err) // a figure that is no number: a programming error
	}
	return string(content)
}

// column is one of the table.
type column struct {
	title    string
	figure   Figure
	decimals int
}

var columns = []column{
	{"deliveries/s", DeliveriesPerSecond, 0}, {"ceiling/s", CeilingPerSecond, 0}, {"ratio", CeilingRatio, 2},
	{"CPU s/1000", CPUPer1000, 4}, {"ingest p50 ms", IngestP50, 2}, {"p99", IngestP99, 2},
	{"end to end p50 ms", EndToEndP50, 2}, {"p99", EndToEndP99, 2}, {"peak MiB", PeakMiB, 0}, {"opened", Connections, 0},
	{"fsyncs", Fsyncs, 0}, {"API writes", APIWrites, 0}, {"lost", Lost, 0}, {"twice", Duplicates, 0},
}

// table writes the lines for people.
func table(out io.Writer, lines []Line) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "case\t")
	for _, c := range columns {
		fmt.Fprintf(w, "%s\t", c.title)
	}
	fmt.Fprintln(w)
	for _, l := range lines {
		fmt.Fprintf(w, "%s\t", l.Case)
		for _, c := range columns {
			fmt.Fprintf(w, "%s\t", cell(l.Figures, c))
		}
		fmt.Fprintln(w)
	}
	return w.Flush()
}

func cell(f Figures, c column) string {
	value, measured := f[c.figure]
	if !measured {
		return "-"
	}
	return strconv.FormatFloat(value, 'f', c.decimals, 64)
}
