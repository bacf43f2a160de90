import Foundation
import Migrations
import Postgres
import TestSupport
import Testing

/// Files arrive at the server byte by byte, or are refused.
@Suite(.database, .timeLimit(.minutes(2)))
struct EncodingTests {
    private func script(_ bytes: [UInt8]) throws -> MigrationScript { try MigrationScript(path: "f.sql", bytes: bytes) }

    @Test func `a byte that is not UTF-8 is refused with its place`() throws {
        let bytes = Array("SELECT 'ä';\nSELECT 'gr".utf8) + [0xF6] + Array("n';\n".utf8)
        let error = #expect(throws: MigrationError.self) { try script(bytes) }
        #expect(error?.description == "f.sql:2:11: byte 24 of the file, 0xf6, is not valid in UTF8")
        #expect(error?.hint?.contains("-- reeve: encoding LATIN1") == true)
        for bad: [UInt8] in [
            [0xC3], [0xE2, 0x82], [0xED, 0xA0, 0x80], [0xC0, 0xAF], [0xF5, 0x80, 0x80, 0x80], [0x80],
        ] {
            #expect(throws: MigrationError.self, "\(bad)") {
                try script(Array("SELECT '".utf8) + bad + Array("'".utf8))
            }
        }
    }

    @Test func `UTF-16 and NUL are named as such`() throws {
        let sql = "CREATE TABLE t (a int);"
        let little = sql.utf16.flatMap { [UInt8($0 & 0xFF), UInt8($0 >> 8)] }
        let big = sql.utf16.flatMap { [UInt8($0 >> 8), UInt8($0 & 0xFF)] }
        for bytes in [[0xFF, 0xFE] + little, [0xFE, 0xFF] + big, little, big] {
            let error = #expect(throws: MigrationError.self) { try script(bytes) }
            #expect(error?.description.contains("UTF-16") == true)
        }
        let error = #expect(throws: MigrationError.self) { try script(Array("SELECT 1;\nSELECT '\0';".utf8)) }
        #expect(error?.description == "f.sql:2:9: the file contains a NUL character, which SQL does not allow")
    }

    @Test func `a file in another encoding is read in it`() throws {
        let latin = Array("-- reeve: encoding LATIN1\nSELECT 'gr".utf8) + [0xF6, 0xDF] + Array("e';".utf8)
        #expect(try script(latin).text.hasSuffix("SELECT 'größe';"))
        let euro = Array("-- reeve: encoding win1252\nSELECT '".utf8) + [0x80] + Array("';".utf8)
        #expect(try script(euro).text.hasSuffix("SELECT '€';"))
        // The second byte of this character is a backslash.
        let japanese = Array("-- reeve: encoding SJIS\nSELECT '".utf8) + [0x95, 0x5C] + Array("', E'\\n';".utf8)
        #expect(try script(japanese).text.hasSuffix("SELECT '表', E'\\n';"))
        #expect(throws: MigrationError.self) { try script(Array("-- reeve: encoding LATIN99\nSELECT 1;".utf8)) }
        let broken = Array("-- reeve: encoding EUC_JP\nSELECT '".utf8) + [0xFF] + Array("';".utf8)
        let error = #expect(throws: MigrationError.self) { try script(broken) }
        #expect(error?.description.contains("f.sql:2:9: byte 35 of the file, 0xff, is not valid in EUC_JP") == true)
    }

    @Test(arguments: [
        "/*\nSET client_encoding = 'LATIN1';\n*/\nSELECT 'grö';", "SELECT '\nSET NAMES LATIN1;\ngrö';",
        "DO $$ BEGIN\nSET client_encoding = 'LATIN1';\nRAISE NOTICE 'grö'; END $$;",
        "COPY log FROM STDIN;\nSET NAMES 'LATIN1';\ngrö\n\\.\n",
        "ALTER ROLE x\nSET client_encoding = 'LATIN1';\nSELECT 'grö';",
        "SET client_encoding = 'LATIN1';\nRESET client_encoding;\nSELECT 'grö';",
        "SET client_encoding TO 'LATIN1';\nSET client_encoding TO DEFAULT;\nSELECT 'grö';",
        "SET client_encoding TO 'LATIN1';\nRESET ALL;\nSELECT 'grö';",
    ])
    func `only a statement changes the encoding, and it can be taken back`(sql: String) throws {
        #expect(try script(Array(sql.utf8)).text == sql)
    }

    @Test(arguments: [
        "SET client_encoding = 'LATIN1';\nSELECT 1;\nSET client_encoding = 'UTF8'; -- back\nSELECT 2;",
        "SET client_encoding = 'LATIN1';\nSET NAMES DEFAULT; SELECT 2;",
        "SET client_encoding = 'LATIN1';\nSELECT set_config('client_encoding', 'UTF8', false);",
        "SET client_encoding = 'LATIN1';\nROLLBACK TO SAVEPOINT a;", "SET client_encoding = 'LATIN1'; SELECT 1;",
        "SET client_encoding = 'LATIN1';\nCOPY t FROM STDIN WITH (ENCODING 'LATIN1');\nx\n\\.\n",
        "SET client_encoding = 'nonsense';\nSELECT 1;", "-- reeve: encoding JOHAB\nSELECT 1;",
    ])
    func `what would be converted otherwise than by psql is refused`(sql: String) throws {
        #expect(throws: MigrationError.self) { try script(Array(sql.utf8)) }
    }

    @Test func `characters are those of the server`() throws {
        let bytes = Array("-- reeve: encoding EUC_JP\nSELECT '".utf8) + [0xA1, 0xC1, 0xA1, 0xDD] + Array("';".utf8)
        #expect(try script(bytes).text.hasSuffix("SELECT '\u{FF5E}\u{FF0D}';"))
    }

    @Test(arguments: [
        "\u{FEFF}-- reeve: opt-in demo\nSELECT 1;", "/* a /* b */\n */ -- reeve: opt-in demo\nSELECT 1;",
        "-- Reeve : opt-in demo\nSELECT 1;", "--- reeve: opt-in demo\nSELECT 1;",
    ])
    func `directives are found in all comments at the beginning`(text: String) throws {
        #expect(try script(Array(text.utf8)).directives.option == "demo")
    }

    @Test(arguments: ["SELECT 1;\n-- reeve: no-transaction\n", "SELECT 1;\n  -- Reeve: opt-in demo"])
    func `a directive that would have no effect is refused`(text: String) throws {
        let error = #expect(throws: MigrationError.self) { try script(Array(text.utf8)) }
        #expect(error?.description.contains("f.sql:2") == true)
    }

    @Test func `the statement client_encoding changes the encoding of what follows, as in psql`() async throws {
        let database = try TestDatabase.current
        let fixture = try MigrationFixture([:])
        let bytes =
            Array("CREATE TABLE t AS SELECT 'ä' AS v;\nSET client_encoding = 'LATIN1';\nINSERT INTO t VALUES ('gr".utf8)
            + [0xF6] + Array("n');\nset names 'utf-8';\nINSERT INTO t VALUES ('ü');\n".utf8)
        try Data(bytes).write(to: URL(fileURLWithPath: "\(fixture.folder)/0001_a.up.sql"))
        _ = try await fixture.migrator(database.settings).up()
        let values: String = try await database.value("SELECT string_agg(v, ' ') FROM app.t")
        #expect(values == "ä grön ü")
        #expect(try await fixture.migrator(database.settings).verify().isEmpty)
    }
}
