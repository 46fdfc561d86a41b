package mysql

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"orrery/state"
)

func TestItemsOfDump(t *testing.T) {
	text := magic + "CREATE TABLE `plain` (\n  `a` int(11) DEFAULT NULL\n);\nINSERT INTO `plain` VALUES\n(1),\n(NULL);\n" +
		"CREATE TABLE `o``dd` (\n  `b,c` text NOT NULL,\n  `PRIMARY KEY` int(11) NOT NULL,\n  `v` text GENERATED ALWAYS AS (`b,c`) VIRTUAL,\n" +
		"  PRIMARY KEY (`PRIMARY KEY`,`b,c`(20)),\n  KEY `k` (`v`)\n);\n" +
		"INSERT INTO `o``dd` (`PRIMARY KEY`, `b,c`) VALUES\n(1,'it\\'s (one), two'),\n(2,_binary 'x''y');\n" +
		"CREATE SEQUENCE `s` start with 1;\nDO SETVAL(`s`, 7, 0);\n" +
		"DELIMITER ;;\nCREATE TRIGGER `t` BEFORE INSERT ON `plain` FOR EACH ROW\nSET @a = 1\n;;\nDELIMITER ;\n" + endMarker + "\n"
	var m Module
	var got []string
	err := m.Items(t.Context(), strings.NewReader(text), func(i state.Item) error {
		if i.Content != nil {
			got = append(got, fmt.Sprintf("%s: %s %v", m.Group(i), m.Name(i), i.Within))
		}
		return nil
	})
	want := []string{
		"(definitions): table plain false", "plain: 1 false", "plain: NULL false",
		"(definitions): table o`dd false", `o` + "`" + `dd: 1, 'it\'s (one), two' true`, "o`dd: 2, _binary 'x''y' true",
		"(definitions): table s false", "(sequences): s false",
		"(definitions): CREATE TRIGGER `t` BEFORE INSERT ON `plain` FOR EACH ROW SET @a = 1 false",
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v\n%s", err, strings.Join(got, "\n"))
	}
}

// FuzzFields splits anything: the fields and the commas between them are what is in the parentheses.
func FuzzFields(f *testing.F) {
	for _, seed := range []string{"(1,'a,b',(2,3))", "()", "(", "", "(,)", "('", "x,y"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) == 0 || rowLength(text) != len(text) {
			return
		}
		if got := bytes.Join(fields(text), []byte{','}); string(got) != string(text[1:len(text)-1]) {
			t.Errorf("%q became %q", text, got)
		}
	})
}
