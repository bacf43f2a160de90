import Foundation
import SQL
import TestSupport
import Testing

@testable import Backups

/// What of a script of a backup reaches psql: our own COPY statements and data.
@Suite struct CopyFilterTests {
    private let t = FetchedTable(schema: "public", name: "t")

    private func filter(encoding: String = "UTF8") -> CopyFilter {
        CopyFilter(
            [
                t: CopyFilter.Destination(path: "\"new\".\"t\"", columns: ["id", "say \"so\""]),
                FetchedTable(schema: "a.\nb", name: "x\"\n\\.\n"): CopyFilter.Destination(
                    path: "\"s\".\"odd\"", columns: []),
            ], encodings: [encoding])
    }

    /// Sends a script through a filter, in pieces of the given sizes; the rest is the last piece.
    private func run(
        _ script: String, _ sizes: [Int] = [], encoding: String = "UTF8"
    ) throws -> (output: String, rows: [FetchedTable: Int]) {
        var filter = filter(encoding: encoding)
        var output: [UInt8] = []
        var rest = Array(script.utf8)[...]
        for size in sizes + [rest.count] where !rest.isEmpty {
            try Array(rest.prefix(size)).withUnsafeBytes { try filter.take($0) { output += $0 } }
            rest = rest.dropFirst(size)
        }
        try filter.finish()
        return (String(decoding: output, as: UTF8.self), filter.rows)
    }

    private let header = "COPY public.t (id, \"say \"\"so\"\"\") FROM stdin;\n"
    private let own = "COPY \"new\".\"t\" (\"id\", \"say \"\"so\"\"\") FROM stdin (ENCODING 'UTF8');\n"

    @Test func `rows of wanted tables are passed on, and no SQL of the script`() throws {
        let data = "1\ta\n2\t\\\\.\n\\\\.\n\\N\t\\N\n.\n\n\\.\n"
        let script = """
            SET client_encoding = 'UTF8';
            DROP TABLE precious;
            \\! rm -rf /
            COPY public.other (id) FROM stdin;
            DROP TABLE precious;
            \(header)\\.
            \(header)\(data)SELECT pg_catalog.setval('public.s', 1, true);
            COPY "a.
            b"."x""
            \\.
            "  FROM stdin;


            \\.
            DROP TABLE other;
            """
        let (output, rows) = try run(script)
        #expect(output == own + data + "COPY \"s\".\"odd\" FROM stdin (ENCODING 'UTF8');\n\n\n\\.\n")
        #expect(rows == [t: 6, FetchedTable(schema: "a.\nb", name: "x\"\n\\.\n"): 2])
        #expect(try run("", encoding: "LATIN1").output.isEmpty)
    }

    @Test func `a table without rows is counted as such`() throws {
        let (output, rows) = try run(header + "\\.\n")
        #expect(output == own + "\\.\n" && rows == [t: 0])
    }

    @Test(arguments: [
        // Lines at which psql ends the data, and others like them.
        "1\ta\n\\.\r\nDROP TABLE precious;\n\\.\n", "\\.x\n\\.\n", "\\..\n\\.\n", "1\ta\n\\. \n\\.\n",
        // Without an end.
        "1\ta\n", "1\ta\n\\.", "1\ta\n\\", "", "1\ta\u{0}\n\\.\n",
    ]) func `data that psql could read in another way are refused`(data: String) throws {
        for size in 1...12 {
            #expect(throws: CopyFilter.Malformed.self) {
                try run(header + data, Array(repeating: size, count: 200))
            }
        }
    }

    @Test(arguments: [
        "COPY public.t (id) FROM stdin;\n\\.\n", "COPY public.t (id, id) FROM stdin;\n\\.\n",
        "COPY public.t FROM stdin;\n\\.\n", "COPY public.t (id, \"say \"\"so\"\"\", x) FROM stdin;\n\\.\n",
        "COPY public.t (id, \"say \"\"so\"\"\") FROM PROGRAM 'rm';\n\\.\n", "COPY t (id) FROM stdin;\n\\.\n",
        "COPY public.t (id, \"say \"\"so\"\"\") FROM stdin; DROP TABLE precious;\n\\.\n",
        "COPY public.t (id, \"say\") FROM stdin WITH (FORMAT csv);\n\\.\n", "COPY public. (id) FROM stdin;\n\\.\n",
        "SET client_encoding = 'LATIN1';\n",
        "SET client_encoding = 'UTF8'; DROP TABLE precious;\nSET client_encoding = 8;\n",
        "COPY public.t (\(String(repeating: "x", count: 300_000))) FROM stdin;\n\\.\n",
    ]) func `statements that pg_dump does not write of these tables are refused`(script: String) throws {
        #expect(throws: CopyFilter.Malformed.self) { try run(script) }
    }

    @Test func `an encoding other than UTF-8 is named for the data`() throws {
        let output = try run("SET client_encoding = 'LATIN1';\n" + header + "1\t2\n\\.\n", encoding: "LATIN1").output
        #expect(output == own.replacing("UTF8", with: "LATIN1") + "1\t2\n\\.\n")
    }

    @Test func `the pieces in which a script arrives make no difference`() throws {
        var random = SeededGenerator(13)
        let rows = ["1\ta", "", "\\\\.", ".", "\\N\t\\N", "\\", "\\\\", "COPY public.t (id) FROM stdin;", "\\t\\."]
        let lines = ["", "SET x = 1;", "-- COPY public.t (id) FROM stdin;", "\\.", "\\connect x", "SELECT '"]
        for _ in 0..<300 {
            var (script, expected, count) = ("", "", 0)
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                for _ in 0..<Int.random(in: 0...3, using: &random) {
                    script += lines.randomElement(using: &random)! + "\n"
                }
                let data = (0..<Int.random(in: 0...5, using: &random)).map { _ in
                    rows.randomElement(using: &random)! + "\n"
                }
                let isWanted = Bool.random(using: &random)
                script += (isWanted ? header : "COPY public.\"T\" (id) FROM stdin;\n") + data.joined() + "\\.\n"
                if isWanted {
                    expected += own + data.joined() + "\\.\n"
                    count += data.count
                }
            }
            let sizes = (0..<60).map { _ in Int.random(in: 1...9, using: &random) }
            let found = try run(script, sizes)
            #expect(found.output == expected && (found.rows[t] ?? 0) == count, "\(script.debugDescription) \(sizes)")
        }
    }
}
