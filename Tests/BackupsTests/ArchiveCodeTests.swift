import Postgres
import SQL
import Testing

@testable import Backups

/// Whose code an archive brings.
struct ArchiveCodeTests {
    private func foreign(_ lines: String..., trusting trusted: [String] = ["postgres"]) throws -> ArchiveCode.Piece? {
        let text = lines.enumerated().map { "\($0.offset + 1); \($0.element)\n" }.joined()
        return ArchiveCode.foreign(
            in: try TableOfContents(Array(text.utf8)), trusted: Set(trusted.map(ExactText.init)),
            among: ["postgres", "app", "a postgres", "two\nlines", "\u{e9}", "e\u{301}"])
    }

    @Test func `tables and trusted functions are no others' code`() throws {
        #expect(
            try foreign(
                "1259 10 TABLE public t app", "0 11 TABLE DATA public t app", "0 0 COMMENT - EXTENSION hstore ",
                "3079 12 EXTENSION - hstore ", "1255 13 FUNCTION public f(integer) postgres",
                "2620 14 TRIGGER public t t_changed app", "1247 15 TYPE public state app",
                "2605 16 CAST - CAST (public.state AS text) ") == nil)
    }

    @Test(
        arguments: [
            ("1255 13 FUNCTION public f(integer) app", "app"), ("2617 13 OPERATOR public <<< app", "app"),
            ("2616 13 OPERATOR CLASS public ops app", "app"), ("1255 13 AGGREGATE public total(integer) app", "app"),
            // The name of one role can end with another's.
            ("1255 13 FUNCTION public f() a postgres", "a postgres"),
            ("1255 13 FUNCTION public f() two lines", "two\nlines"),
            // What has no owner, is of nobody who is there, or is not known, is nobody's whom one could trust.
            ("3576 13 LANGUAGE - x ", nil), ("1255 13 FUNCTION public f() gone", nil),
            ("99 13 NEW KIND public f app", "app"), ("1255 13 FUNCTION public postgres app", "app"),
        ] as [(String, String?)])
    func `what others could run is found`(line: String, owner: String?) throws {
        let piece = try foreign("1255 12 FUNCTION public g() postgres", line)
        #expect(
            piece?.owner == owner
                && piece?.name == line.split(separator: " ").dropFirst(2).joined(separator: " ")
                    + (line.hasSuffix(" ") ? " " : "")
        )
        let trusting = try foreign(line, trusting: ["postgres", "app", "a postgres", "two\nlines"])
        #expect((trusting == nil) == (owner != nil))
    }

    @Test func `a role whose name only looks like that of a trusted one is not trusted`() throws {
        let line = "1255 13 FUNCTION public f() e\u{301}"
        #expect(try foreign(line, trusting: ["\u{e9}"]) != nil)
        #expect(try foreign(line, trusting: ["e\u{301}"]) == nil)
    }
}
