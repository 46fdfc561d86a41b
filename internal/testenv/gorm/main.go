// Command gorm makes a schema as GORM makes it, and works on it as programs with GORM do, for tests of databases that are
// not simply tables.
//
//	gorm make URL    makes the schema and rows
//	gorm use URL     works on them, and writes for each step a line "STEP: what came of it"
//
// The password is PGPASSWORD. It is a module of its own, so that GORM is no dependency of the product.
package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/logger"
)

// Company has many users.
type Company struct {
	ID   uint
	Name string `gorm:"uniqueIndex;not null"`
}

// User is deleted softly.
type User struct {
	gorm.Model
	Name      string `gorm:"uniqueIndex;not null"`
	Email     *string
	Visits    int            `gorm:"not null;default:0;check:visits >= 0"`
	Settings  map[string]any `gorm:"serializer:json;type:jsonb"`
	CompanyID *uint
	Company   *Company
	Profile   Profile
	Posts     []Post
}

// Profile is a user's only one.
type Profile struct {
	ID     uint
	UserID uint `gorm:"uniqueIndex"`
	Motto  string
}

// Post has many tags, and each of them many posts.
type Post struct {
	ID     uint
	UserID uint
	Title  string
	Tags   []Tag `gorm:"many2many:post_tags"`
}

// Tag has its text as its key.
type Tag struct {
	Text string `gorm:"primaryKey"`
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "gorm:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 2 {
		return errors.New("usage: gorm make|use URL")
	}
	db, err := gorm.Open(postgres.Open(args[1]), &gorm.Config{Logger: logger.Discard})
	if err != nil {
		return err
	}
	if args[0] == "make" {
		return prepare(db)
	}
	for _, s := range steps {
		result, err := s.do(db)
		if err != nil {
			result = explain(err)
		}
		fmt.Printf("%s: %s\n", s.name, strings.ReplaceAll(result, "\n", " "))
	}
	return nil
}

func explain(err error) string {
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		return "error " + refused.Code
	}
	return "error: " + err.Error()
}

func text(s string) *string { return &s }

func prepare(db *gorm.DB) error {
	if err := db.AutoMigrate(&Company{}, &User{}, &Profile{}, &Post{}, &Tag{}); err != nil {
		return err
	}
	acme := Company{Name: "Acme"}
	return errors.Join(db.Create(&acme).Error, db.Create(&[]User{
		{Name: "ann", Email: text("ann@example.org"), CompanyID: &acme.ID, Settings: map[string]any{"theme": "dark"}, Profile: Profile{Motto: "first"},
			Posts: []Post{{Title: "hello", Tags: []Tag{{"go"}, {"sql"}}}, {Title: "again", Tags: []Tag{{"sql"}}}}},
		{Name: "bob", CompanyID: &acme.ID, Profile: Profile{Motto: "second"}},
		{Name: "cid", Profile: Profile{Motto: "third"}, Posts: []Post{{Title: "cid's"}}},
	}).Error)
}

type step struct {
	name string
	do   func(db *gorm.DB) (string, error)
}

func named(db *gorm.DB, name string) (u User, err error) {
	return u, db.Where("name = ?", name).First(&u).Error
}

// counts is the state after a step.
func counts(db *gorm.DB) (string, error) {
	var all []string
	for _, model := range []any{&Company{}, &User{}, &Profile{}, &Post{}, &Tag{}} {
		var n int64
		if err := db.Model(model).Count(&n).Error; err != nil {
			return "", err
		}
		all = append(all, fmt.Sprint(n))
	}
	return strings.Join(all, " "), nil
}

var steps = []step{
	{"preload", func(db *gorm.DB) (string, error) {
		var all []User
		err := db.Preload("Company").Preload("Profile").Preload("Posts.Tags", func(tx *gorm.DB) *gorm.DB { return tx.Order("text") }).Order("name").Find(&all).Error
		var b strings.Builder
		for _, u := range all {
			company := "-"
			if u.Company != nil {
				company = u.Company.Name
			}
			fmt.Fprintf(&b, "%s/%s/%s/%v ", u.Name, company, u.Profile.Motto, u.Settings["theme"])
			for _, p := range u.Posts {
				fmt.Fprintf(&b, "%s%v ", p.Title, p.Tags)
			}
		}
		return b.String(), err
	}},
	{"joins", func(db *gorm.DB) (string, error) {
		var all []User
		err := db.Joins("Company").Joins("Profile").Where(`"Company".name = ?`, "Acme").Order("users.name desc").Find(&all).Error
		if err != nil || len(all) == 0 {
			return "nobody", err
		}
		return fmt.Sprint(len(all), all[0].Name, all[0].Company.Name, all[0].Profile.Motto), nil
	}},
	{"group", func(db *gorm.DB) (string, error) {
		var rows []struct {
			Name string
			N    int
		}
		err := db.Model(&Post{}).Select("users.name, count(*) as n").Joins("join users on users.id = posts.user_id").Group("users.name").Having("count(*) > ?", 0).Order("users.name").Scan(&rows).Error
		return fmt.Sprint(rows), err
	}},
	{"create", func(db *gorm.DB) (string, error) {
		u := User{Name: "dan", Email: text("dan@example.org")}
		r := db.Create(&u)
		return fmt.Sprint(r.RowsAffected, u.ID != 0, u.Visits, u.CreatedAt.IsZero()), r.Error
	}},
	{"create in batches", func(db *gorm.DB) (string, error) {
		all := []User{{Name: "eve"}, {Name: "fay"}, {Name: "gus"}}
		r := db.CreateInBatches(&all, 2)
		return fmt.Sprint(r.RowsAffected, all[2].ID > all[0].ID), r.Error
	}},
	{"create with associations", func(db *gorm.DB) (string, error) {
		u := User{Name: "hal", Profile: Profile{Motto: "fourth"}, Posts: []Post{{Title: "hal's", Tags: []Tag{{"go"}, {"new"}}}}}
		if err := db.Create(&u).Error; err != nil {
			return "", err
		}
		return counts(db)
	}},
	{"create each by itself", func(db *gorm.DB) (string, error) {
		u := User{Name: "ida"}
		err := db.Omit(clause.Associations).Create(&u).Error
		p := Post{UserID: u.ID, Title: "ida's"}
		err = errors.Join(err, db.Omit(clause.Associations).Create(&p).Error, db.Omit(clause.Associations).Create(&Profile{UserID: u.ID, Motto: "fifth"}).Error)
		return fmt.Sprint(p.ID != 0), err
	}},
	{"append to an association", func(db *gorm.DB) (string, error) {
		var p Post
		if err := db.Where("title = ?", "again").First(&p).Error; err != nil {
			return "", err
		}
		err := db.Model(&p).Association("Tags").Append(&Tag{"go"})
		return fmt.Sprint(db.Model(&p).Association("Tags").Count()), err
	}},
	{"link without saving", func(db *gorm.DB) (string, error) {
		var p Post
		if err := db.Where("title = ?", "cid's").First(&p).Error; err != nil {
			return "", err
		}
		err := db.Omit("Tags.*").Model(&p).Association("Tags").Append(&Tag{"go"}, &Tag{"sql"})
		return fmt.Sprint(db.Model(&p).Association("Tags").Count()), err
	}},
	{"take from an association", func(db *gorm.DB) (string, error) {
		var p Post
		if err := db.Where("title = ?", "hello").First(&p).Error; err != nil {
			return "", err
		}
		err := db.Model(&p).Association("Tags").Delete(&Tag{"sql"})
		return fmt.Sprint(db.Model(&p).Association("Tags").Count()), err
	}},
	{"update", func(db *gorm.DB) (string, error) {
		r := db.Model(&User{}).Where("name in ?", []string{"ann", "dan"}).Update("visits", gorm.Expr("visits + ?", 5))
		var all []int
		err := errors.Join(r.Error, db.Model(&User{}).Where("visits > 0").Order("name").Pluck("visits", &all).Error)
		return fmt.Sprint(r.RowsAffected, all), err
	}},
	{"update returning", func(db *gorm.DB) (string, error) {
		var all []User
		err := db.Model(&all).Clauses(clause.Returning{Columns: []clause.Column{{Name: "name"}, {Name: "visits"}}}).Where("name = ?", "ann").Updates(map[string]any{"visits": 7, "email": nil}).Error
		if err != nil || len(all) == 0 {
			return "nobody", err
		}
		return fmt.Sprint(len(all), all[0].Name, all[0].Visits), nil
	}},
	{"save", func(db *gorm.DB) (string, error) {
		u, err := named(db, "bob")
		u.Settings = map[string]any{"theme": "light"}
		err = errors.Join(err, db.Save(&u).Error)
		again, err2 := named(db, "bob")
		return fmt.Sprint(again.Settings), errors.Join(err, err2)
	}},
	{"upsert by a column", func(db *gorm.DB) (string, error) {
		err := db.Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "name"}}, DoUpdates: clause.AssignmentColumns([]string{"email"})}).Create(&User{Name: "cid", Email: text("new")}).Error
		u, err2 := named(db, "cid")
		if u.Email == nil {
			return "", errors.Join(err, err2)
		}
		return *u.Email, errors.Join(err, err2)
	}},
	{"insert or nothing", func(db *gorm.DB) (string, error) {
		r := db.Clauses(clause.OnConflict{DoNothing: true}).Create(&Company{Name: "Acme"})
		return fmt.Sprint(r.RowsAffected), r.Error
	}},
	{"first or create", func(db *gorm.DB) (string, error) {
		var old, fresh User
		a := db.Where(User{Name: "ann"}).FirstOrCreate(&old)
		b := db.Where(User{Name: "jim"}).Attrs(User{Visits: 3}).FirstOrCreate(&fresh)
		return fmt.Sprint(a.RowsAffected, old.Visits, b.RowsAffected, fresh.ID != 0, fresh.Visits), errors.Join(a.Error, b.Error)
	}},
	{"soft delete", func(db *gorm.DB) (string, error) {
		r := db.Where("name = ?", "bob").Delete(&User{})
		var there, all int64
		err := errors.Join(r.Error, db.Model(&User{}).Where("name = ?", "bob").Count(&there).Error, db.Unscoped().Model(&User{}).Where("name = ?", "bob").Count(&all).Error)
		return fmt.Sprint(r.RowsAffected, there, all), err
	}},
	{"delete what is referred to", func(db *gorm.DB) (string, error) {
		r := db.Unscoped().Where("name = ?", "cid").Delete(&User{})
		return fmt.Sprint(r.RowsAffected), r.Error
	}},
	{"delete with what refers", func(db *gorm.DB) (string, error) {
		u, err := named(db, "ida")
		r := db.Unscoped().Select(clause.Associations).Delete(&u)
		var n int64
		err = errors.Join(err, r.Error, db.Model(&Post{}).Where("user_id = ?", u.ID).Count(&n).Error)
		return fmt.Sprint(r.RowsAffected, n), err
	}},
	{"transaction undone", func(db *gorm.DB) (string, error) {
		undo := errors.New("undo")
		err := db.Transaction(func(tx *gorm.DB) error {
			if err := tx.Create(&User{Name: "kim"}).Error; err != nil {
				return err
			}
			return undo
		})
		if !errors.Is(err, undo) {
			return "", err
		}
		var n int64
		err = db.Model(&User{}).Where("name = ?", "kim").Count(&n).Error
		return fmt.Sprint(n), err
	}},
	{"transaction in a transaction", func(db *gorm.DB) (string, error) {
		err := db.Transaction(func(tx *gorm.DB) error {
			if err := tx.Create(&User{Name: "lea"}).Error; err != nil {
				return err
			}
			_ = tx.Transaction(func(inner *gorm.DB) error { // a savepoint, undone
				return errors.Join(inner.Create(&User{Name: "max"}).Error, errors.New("undo"))
			})
			return nil
		})
		var names []string
		err = errors.Join(err, db.Model(&User{}).Where("name in ?", []string{"lea", "max"}).Pluck("name", &names).Error)
		return fmt.Sprint(names), err
	}},
	{"lock a row", func(db *gorm.DB) (string, error) {
		var u User
		err := db.Transaction(func(tx *gorm.DB) error {
			if err := tx.Clauses(clause.Locking{Strength: "UPDATE"}).Where("name = ?", "ann").First(&u).Error; err != nil {
				return err
			}
			return tx.Model(&u).Update("visits", u.Visits+1).Error
		})
		return fmt.Sprint(u.Visits), err
	}},
	{"unique constraint", func(db *gorm.DB) (string, error) { return "", db.Create(&User{Name: "ann"}).Error }},
	{"foreign key", func(db *gorm.DB) (string, error) {
		return "", db.Create(&Post{UserID: 999_999, Title: "nobody's"}).Error
	}},
	{"check constraint", func(db *gorm.DB) (string, error) {
		return "", db.Model(&User{}).Where("name = ?", "ann").Update("visits", -1).Error
	}},
	{"not null", func(db *gorm.DB) (string, error) {
		return "", db.Exec("insert into companies (name) values (null)").Error
	}},
	{"find in batches", func(db *gorm.DB) (string, error) {
		var some []Tag
		n := 0
		r := db.FindInBatches(&some, 1, func(tx *gorm.DB, batch int) error { n = batch; return nil })
		return fmt.Sprint(n == int(r.RowsAffected)), r.Error
	}},
	{"raw", func(db *gorm.DB) (string, error) {
		var name string
		err := db.Raw("with recursive r(n) as (select 1 union all select n + 1 from r where n < 3) select u.name from users u, r where r.n = 3 and u.settings->>'theme' = @theme", map[string]any{"theme": "dark"}).Scan(&name).Error
		return name, err
	}},
	{"migrate again", func(db *gorm.DB) (string, error) { return "", db.AutoMigrate(&User{}) }},
	{"a table of its own", func(db *gorm.DB) (string, error) {
		type Note struct {
			ID   uint
			Text string
		}
		err := db.AutoMigrate(&Note{})
		err = errors.Join(err, db.Clauses(clause.OnConflict{UpdateAll: true}).Create(&Note{Text: "mine"}).Error)
		var n int64
		err = errors.Join(err, db.Model(&Note{}).Count(&n).Error)
		return fmt.Sprint(n), err
	}},
	{"what there is", counts},
}
