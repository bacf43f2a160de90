import Foundation
import Postgres
import SQL
import Testing

@Suite struct ValueTests {
    @Test(
        arguments: [
            ("2026-03-29 01:30:00+00", 1_774_747_800_000_000),
            ("2026-03-29 03:30:00.000001+02", 1_774_747_800_000_001),
            ("2026-03-29 07:00:00+05:30", 1_774_747_800_000_000),
            ("1969-12-31 23:59:59.999999+00", -1),
            ("0001-01-01 00:00:00+00", -62_135_596_800_000_000),
            ("0001-12-31 00:00:00+00 BC", -62_135_683_200_000_000),
            ("2026-03-29", 1_774_742_400_000_000),
        ] as [(String, Int64)])
    func `timestamps are read to the microsecond`(text: String, microseconds: Int64) throws {
        #expect(try Timestamp.fromPostgres(text).microseconds == microseconds)
    }

    @Test func `timestamps are written as they are read`() throws {
        for _ in 0..<500 {
            let time = Timestamp(microseconds: .random(in: -200_000_000_000_000_000...200_000_000_000_000_000))
            #expect(try Timestamp.fromPostgres(time.postgresText.replacing("T", with: " ")) == time)
        }
        #expect(Timestamp(microseconds: 1_774_747_800_120_000).rfc3339 == "2026-03-29T01:30:00.12Z")
        #expect(try Timestamp.fromPostgres("infinity") == .infinity)
    }

    @Test func `arrays are read with quotes, NULLs, bounds and dimensions`() throws {
        #expect(try [String?].fromPostgres(#"{a,"b,\"c\"",NULL,"NULL",""}"#) == ["a", "b,\"c\"", nil, "NULL", ""])
        #expect(try [Int].fromPostgres("[0:1]={4,5}") == [4, 5])
        #expect(try [[Int]].fromPostgres("{{1,2},{3,4}}") == [[1, 2], [3, 4]])
        #expect(try [Int].fromPostgres("{}") == [])
        #expect(throws: PostgresError.self) { try [Int].fromPostgres("{1,,2}") }
        #expect(throws: PostgresError.self) { try [Int].fromPostgres("{1") }
    }

    @Test func `what is no value of the type is refused`() {
        #expect(throws: PostgresError.self) { try Int.fromPostgres("1.5") }
        #expect(throws: PostgresError.self) { try Bool.fromPostgres("true") }
        #expect(throws: PostgresError.self) { try Bytes.fromPostgres("abc") }
        #expect(throws: PostgresError.self) { try Bytes.fromPostgres("\\xabc") }
    }

    @Test(arguments: [
        ("postgresql+psycopg2://u@h/d", "postgresql+psycopg2"), ("postgresql://u:p@ss@h/d", "more than one '@'"),
        ("mysql://u@h/d", "mysql"), ("host=h dbnam=d", "invalid connection"),
    ])
    func `connection strings of other stacks are refused with what is wrong`(text: String, expected: String) {
        let error = #expect(throws: PostgresError.self) { try ConnectionSettings(connectionString: text) }
        #expect(error?.message.contains(expected) == true)
        #expect(error?.description.contains("p@ss") == false)
    }

    @Test func `an excerpt shows the line and a caret`() {
        let source = Array("SELECT 1;\nSELECT '日本', nope;\n".utf8)
        let offset = source.firstRange(of: Array("nope".utf8))?.lowerBound ?? 0
        let excerpt = SourceExcerpt(file: "f.sql", source: source, offset: offset)
        #expect(excerpt.location == "f.sql:2:14")
        #expect(excerpt.drawing == "    SELECT '日本', nope;\n                 ^")
    }
}
