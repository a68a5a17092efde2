// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

const (
	mit  = "Permission is hereby granted, free of charge, to any person obtaining a copy of this software.\n\nTHE SOFTWARE IS PROVIDED “AS IS”"
	bsd2 = "// Redistribution and use in source and binary forms, with or without modification.\n * Redistributions in binary form must\n * reproduce the above"
	bsd3 = bsd2 + "\n 3. Neither the name may be used to endorse or promote products derived from this"
	isc  = "Permission to use, copy, modify, and distribute this software for any purpose with or without fee is hereby granted"
)

func TestClassify(t *testing.T) {
	ours, err := os.ReadFile(filepath.Join("..", "..", "LICENSE"))
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct{ text, want string }{
		"our own":           {string(ours), "Apache-2.0"},
		"MIT":               {mit, "MIT"},
		"two clauses":       {bsd2, "BSD-2-Clause"},
		"three clauses":     {bsd3, "BSD-3-Clause"},
		"ISC":               {isc, "ISC"},
		"AGPL":              {"GNU AFFERO GENERAL PUBLIC LICENSE Version 3", "AGPL"},
		"GPL":               {"GNU General Public\nLicense", "GPL"},
		"LGPL":              {"GNU Lesser General Public License, which adds to the GNU General Public License", "LGPL"},
		"MIT or GPL":        {mit + " or, at your option, the GNU General Public License", "GPL"},
		"business source":   {"Business Source License 1.1", "BUSL"},
		"nothing":           {"", unknown},
		"all rights":        {"All rights reserved.", unknown},
		"MIT without end":   {"Permission is hereby granted, free of charge, to any person obtaining a copy", unknown},
		"Apache 1.1":        {"The Apache Software License, Version 1.1", unknown},
		"name of a licence": {"Licensed under MIT", unknown},
	} {
		if got := classify(tc.text); got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
}

func TestLicencesOfAModule(t *testing.T) {
	got, err := licencesIn(fstest.MapFS{
		"LICENSE": {Data: []byte(mit)}, "license.txt": {Data: []byte(mit)}, "COPYING.md": {Data: []byte("GNU General Public License")},
		"LICENSES/other": {Data: []byte(bsd3)}, "license.go": {Data: []byte("package x")}, "README.md": {Data: []byte(bsd3)},
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"GPL", "MIT"}, got); diff != "" {
		t.Errorf("licences differ (-want +got):\n%s", diff)
	}
}

func TestJudge(t *testing.T) {
	good := &module{path: "a.example/good", licences: []string{"MIT"}}
	if err := judge([]*module{good}); err != nil {
		t.Errorf("refused: %v", err)
	}
	err := judge([]*module{good, {path: "a.example/copyleft", licences: []string{"GPL", "MIT"}}, {path: "a.example/strange", licences: []string{unknown}},
		{path: "a.example/none"}})
	if err == nil {
		t.Fatal("nothing is refused")
	}
	for _, want := range []string{"a.example/copyleft", "a.example/strange", "a.example/none"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%s is not named in: %v", want, err)
		}
	}
	if strings.Contains(err.Error(), "a.example/good") {
		t.Errorf("the good one is named in: %v", err)
	}
}

// TestDocumentThatIsOld proves that the check fails on a list that is not what is linked.
func TestDocumentThatIsOld(t *testing.T) {
	document := filepath.Join(t.TempDir(), "licences.md")
	const program = "github.com/garyclub/webhook-operator/hack/licences"
	if err := run(document, true, []string{program}); err != nil {
		t.Fatal(err)
	}
	if err := run(document, false, []string{program}); err != nil {
		t.Errorf("the list that was just written: %v", err)
	}
	if err := os.WriteFile(document, []byte("| old |\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := run(document, false, []string{program}); err == nil {
		t.Error("an old list is taken")
	}
}
