import Catalog
import Foundation
import Hashing
import Postgres
import SQL

/// The fingerprint of a table that no query may be planned on (`DatabaseContent.Reading.copy`): the sum of the hashes
/// of its rows as COPY writes them. It excludes generated columns, and differs from the fingerprint that
/// `ContentFingerprint.read` computes for the same rows.
struct CopyFingerprint {
    private var rows = 0
    private var halves: (UInt64, UInt64) = (0, 0)
    /// The beginning of a row whose end has not been read yet.
    private var rest: [UInt8] = []

    /// Reads the fingerprint of a table in the open transaction. To be called after `ContentFingerprint.pinSettings`.
    static func read(
        _ relation: DatabaseContent.Relation, on connection: isolated Connection
    ) throws -> ContentFingerprint {
        var print = CopyFingerprint()
        let columns = relation.storedColumns.map(quoteIdentifier).joined(separator: ", ")
        let list = columns.isEmpty ? "" : " (\(columns))"
        try connection.copyOut("COPY \(relation.path)\(list) TO STDOUT (ENCODING 'UTF8')") { print.add($0) }
        return print.result
    }

    /// Adds a piece of COPY's output.
    mutating func add(_ bytes: UnsafeRawBufferPointer) {
        let newline = UInt8(ascii: "\n")
        var start = bytes.startIndex
        while let end = bytes[start...].firstIndex(of: newline) {
            add(row: Array(bytes[start..<end]))
            start = end + 1
        }
        rest += bytes[start...]
    }

    private mutating func add(row: [UInt8]) {
        let digest = Digest.of(rest + row)
        rest = []
        func half(_ bytes: ArraySlice<UInt8>) -> UInt64 { bytes.reduce(0) { $0 << 8 | UInt64($1) } }
        halves = (halves.0 &+ half(digest[0..<8]), halves.1 &+ half(digest[8..<16]))
        rows += 1
    }

    var result: ContentFingerprint {
        let digits = [halves.0, halves.1].map { half in
            stride(from: 56, through: 0, by: -8).map { UInt8(truncatingIfNeeded: half >> UInt64($0)) }
        }
        return ContentFingerprint(rows: rows, digest: Digest.hex(digits.flatMap { $0 }))
    }
}
