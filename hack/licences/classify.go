// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io/fs"
	"slices"
	"strings"
)

// allowed are the licences, by their SPDX names, that go with ours: they ask for no more than that their text and
// notices are passed on. Each other one, copyleft or not, is for a person to judge.
var allowed = []string{"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT"}

// unknown is a text that is none of those below.
const unknown = "unknown"

// phrase says which licence a text is: the one whose phrases it has all of, in lower case and with single spaces. The
// order matters: copyleft comes first, so that a text with two licences is known by the stricter one, and three clauses
// come before two.
type phrase struct {
	licence string
	all     []string
}

var phrases = []phrase{
	{"AGPL", []string{"gnu affero general public license"}},
	{"LGPL", []string{"gnu lesser general public license"}},
	{"GPL", []string{"gnu general public license"}},
	{"MPL-2.0", []string{"mozilla public license"}},
	{"EPL", []string{"eclipse public license"}},
	{"SSPL", []string{"server side public license"}},
	{"BUSL", []string{"business source license"}},
	{"CC", []string{"creative commons"}},
	{"Apache-2.0", []string{"apache license", "version 2.0, january 2004", "terms and conditions for use, reproduction, and distribution"}},
	{"BSD-3-Clause", []string{"redistribution and use in source and binary forms", "redistributions in binary form must reproduce", "may be used to endorse or promote products"}},
	{"BSD-2-Clause", []string{"redistribution and use in source and binary forms", "redistributions in binary form must reproduce"}},
	{"ISC", []string{"permission to use, copy, modify, and/or distribute this software for any purpose with or without fee is hereby granted"}},
	{"ISC", []string{"permission to use, copy, modify, and distribute this software for any purpose with or without fee is hereby granted"}},
	{"MIT", []string{"permission is hereby granted, free of charge, to any person obtaining a copy", "the software is provided \"as is\""}},
}

// classify names the licence of a text.
func classify(text string) string {
	text = strings.ToLower(strings.Join(strings.Fields(strings.NewReplacer("*", " ", "#", " ", "“", `"`, "”", `"`).Replace(text)), " "))
	for _, p := range phrases {
		if !slices.ContainsFunc(p.all, func(part string) bool { return !strings.Contains(text, part) }) {
			return p.licence
		}
	}
	return unknown
}

// licencesIn are the licences of a module, by the files at its root that are called after one.
func licencesIn(root fs.FS) ([]string, error) {
	entries, err := fs.ReadDir(root, ".")
	if err != nil {
		return nil, err
	}
	var found []string
	for _, e := range entries {
		if e.IsDir() || !isLicence(e.Name()) {
			continue
		}
		text, err := fs.ReadFile(root, e.Name())
		if err != nil {
			return nil, err
		}
		if l := classify(string(text)); !slices.Contains(found, l) {
			found = append(found, l)
		}
	}
	slices.Sort(found)
	return found, nil
}

func isLicence(name string) bool {
	name = strings.ToUpper(name)
	for _, prefix := range []string{"LICENSE", "LICENCE", "COPYING", "UNLICENSE"} {
		if strings.HasPrefix(name, prefix) {
			return !strings.HasSuffix(name, ".GO")
		}
	}
	return false
}
