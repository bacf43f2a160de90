import Foundation
import SQL
import Testing

/// What psql splits, and how.
@Suite struct SQLLexerTests {
    private func split(_ sql: String) throws -> [String] {
        let source = Array(sql.utf8)
        return try SQLLexer.split(source).map { String(decoding: source[$0.range], as: UTF8.self) }
    }

    @Test(
        arguments: [
            ("SELECT 1; SELECT 2", ["SELECT 1", "SELECT 2"]),
            ("\u{FEFF}SELECT 1;\r\nSELECT 2;\r\n", ["SELECT 1", "SELECT 2"]),
            ("-- a; b\nSELECT 1 /* ; */ ;", ["SELECT 1"]),
            (";;  ; SELECT 1;;", ["SELECT 1"]),
            ("SELECT ';' ; SELECT ''';'", ["SELECT ';'", "SELECT ''';'"]),
            (#"SELECT E'\';' ; SELECT '\'; SELECT 3"#, [#"SELECT E'\';'"#, #"SELECT '\'"#, "SELECT 3"]),
            ("SELECT \";\"\";\" ; x", ["SELECT \";\"\";\"", "x"]),
            ("/* a /* ; */ ; */ SELECT 1; 2", ["SELECT 1", "2"]),
            ("SELECT $$;$$ ; SELECT $a$ $b$;$b$ $$ $a$; 1", ["SELECT $$;$$", "SELECT $a$ $b$;$b$ $$ $a$", "1"]),
            ("SELECT a$b$c; SELECT 1", ["SELECT a$b$c", "SELECT 1"]),
            ("SELECT $1; SELECT $2$;$2$", ["SELECT $1", "SELECT $2$", "$2$"]),
            (
                "CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2); SELECT 3",
                ["CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2)", "SELECT 3"]
            ),
            (
                "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 2; END; SELECT 3",
                [
                    "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 2; END",
                    "SELECT 3",
                ]
            ),
            (
                "create or replace procedure p() begin atomic insert into t values (1); end; BEGIN; END",
                ["create or replace procedure p() begin atomic insert into t values (1); end", "BEGIN", "END"]
            ),
            ("SELECT U&'d\\0061t;' ; SELECT U&\"d;\" ; 1", ["SELECT U&'d\\0061t;'", "SELECT U&\"d;\"", "1"]),
            ("SELECT E'a'\n  'b\\';' ; 1", ["SELECT E'a'\n  'b\\';'", "1"]),
            ("SELECT 'a' -- c\n '\\'; 1", ["SELECT 'a' -- c\n '\\'", "1"]),
            ("SELECT 1 --1; 2\n; SELECT 3", ["SELECT 1", "SELECT 3"]),
            ("SELECT 1 */* ; */ 2; SELECT a+--;\n b", ["SELECT 1 */* ; */ 2", "SELECT a+--;\n b"]),
            ("SELECT ä$ö$;", ["SELECT ä$ö$"]),
            ("SELECT 1 \\restrict x\n; 2", ["SELECT 1 \\restrict x", "2"]),
        ] as [(String, [String])])
    func `a script is split as psql splits it`(sql: String, expected: [String]) throws {
        let found = try split(sql)
        if sql.contains("restrict") {
            #expect(found.count == 2)
        } else {
            #expect(found == expected)
        }
    }

    @Test func `the data of COPY belong to it`() throws {
        let sql = "COPY t (a, b) FROM stdin;\n1\t;\n\\N\t'\n\\.\nSELECT 2;\nCOPY u FROM STDIN WITH (FORMAT csv);\nx;y\n"
        let source = Array(sql.utf8)
        let statements = try SQLLexer.split(source)
        let data = statements.map { $0.copyData.map { String(decoding: source[$0], as: UTF8.self) } }
        #expect(data == ["1\t;\n\\N\t'\n", nil, "x;y\n"])
        #expect(statements.map(\.line) == [1, 5, 6])
        let commented = Array("COPY t FROM STDIN; -- the data; of '98\n1\n\\.\nSELECT 2;\n".utf8)
        let found = try SQLLexer.split(commented)
        #expect(found.map { $0.copyData.map { String(decoding: commented[$0], as: UTF8.self) } } == ["1\n", nil])
        #expect(throws: SQLScriptError.self) { try SQLLexer.split(Array("COPY t FROM STDIN; SELECT 1;\n\\.\n".utf8)) }
    }

    @Test func `standard_conforming_strings is followed`() throws {
        let sql =
            "SET standard_conforming_strings = off;\nSELECT 'a\\';';\nSET standard_conforming_strings TO on; SELECT '\\'; 1"
        #expect(try split(sql).count == 5)
        for off in ["0", "no", "'of'", "F", "'false'"] {
            #expect(try split("SET standard_conforming_strings = \(off); SELECT 'a\\';';").count == 2, "\(off)")
        }
        for on in ["1", "yes", "DEFAULT", "'true'"] {
            #expect(try split("SET standard_conforming_strings = \(on); SELECT 'a\\'; SELECT 1").count == 3, "\(on)")
        }
    }

    @Test func `restrict lines of pg_dump are passed over and other meta-commands are refused with their line`() throws
    {
        #expect(try split("\\restrict abc\nSELECT 1;\n\\unrestrict abc\n") == ["SELECT 1"])
        let error = #expect(throws: SQLScriptError.self) { try split("SELECT 1;\n\n\\i other.sql\n") }
        #expect(error?.excerpt?.line == 3)
        #expect(error?.report.hint == "write SQL instead; meta-commands run only in psql")
        #expect(error?.message.contains("\\i") == true)
    }

    @Test(arguments: ["SELECT 'a", "SELECT \"a", "SELECT $x$ a $y$", "SELECT /* /* */ 1", "SELECT E'\\'"])
    func `what is not closed is refused where it was opened`(sql: String) throws {
        let error = #expect(throws: SQLScriptError.self) { try split("SELECT 1;\n" + sql) }
        #expect(error?.excerpt?.line == 2)
        #expect(error?.excerpt?.column == 8)
    }

    @Test func `joining the statements again gives the same statements`() throws {
        var generator = SystemRandomNumberGenerator()
        let parts = [
            "SELECT 1", "SELECT ';'", "SELECT $q$;$q$", "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; END",
            "SELECT (1;2)", "SELECT E'\\';'", "INSERT INTO \"a;b\" VALUES ('x''y')",
        ]
        for _ in 0..<200 {
            let chosen = (0..<Int.random(in: 1...12, using: &generator)).map { _ in
                parts[Int.random(in: 0..<parts.count, using: &generator)]
            }
            let spaces = ["", " ", "\n", " -- c;\n", "/* ; */"]
            let script = chosen.map { $0 + (spaces.randomElement() ?? "") + ";" + (spaces.randomElement() ?? "") }
                .joined(separator: "\n")
            #expect(try split(script) == chosen)
        }
    }
}
