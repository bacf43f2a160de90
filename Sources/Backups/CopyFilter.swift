import Foundation
import SQL

/// Passes the rows of wanted tables from the scripts of a backup to psql, and nothing else of the scripts.
///
/// The scripts are the output of `pg_restore --data-only`, or the stored slices of large tables. They may contain
/// anything, because anyone who can write to a repository can write scripts. The filter never passes on SQL from a
/// script: for each wanted table, it writes a COPY statement of its own, and passes on the lines of data up to `\.`,
/// which psql sends to the server as data. Everything else is skipped. Pure: no I/O.
struct CopyFilter {
    /// Where the rows of a table go.
    struct Destination: Sendable {
        /// The table that the COPY statement names, quoted.
        let path: String
        /// The columns that are stored, without generated columns.
        let columns: Set<ExactText>
    }

    /// Why a script is not what pg_dump or this program writes.
    struct Malformed: Error, CustomStringConvertible {
        let description: String
    }

    private enum State {
        /// At or in a line of SQL. The line is kept in `line`, unless it is too long to be of interest.
        case script
        /// Within the rows of a table. nil: the table is not wanted.
        case rows(FetchedTable?)
    }

    /// How much of the end `\.` of the rows has been read since the last line feed.
    private enum Mark {
        case lineStart, backslash, period
        /// The line is a row.
        case none
    }

    private let wanted: [FetchedTable: Destination]
    /// The encodings that the script may have. It names its own at the beginning.
    private let encodings: [String]
    private var encoding: String
    private let target: String?
    private var state = State.script
    private var mark = Mark.none
    private var line: [UInt8] = []
    private var isLong = false
    /// The numbers of rows that were passed on, by the table that the script named.
    private(set) var rows: [FetchedTable: Int] = [:]

    /// The maximum length of a statement of interest. A table has at most 1,600 columns, with names of at most 63
    /// bytes, whose quotes are doubled.
    private static let longest = 1600 * 132

    /// - Parameters:
    ///   - wanted: the tables whose rows are passed on, by the names that the scripts use.
    ///   - encodings: the encodings that the script may have.
    ///   - target: the encoding of the database that takes the rows.
    init(_ wanted: [FetchedTable: Destination], encodings: [String], target: String? = nil) {
        self.wanted = wanted
        self.target = target
        self.encodings = encodings
        encoding = encodings.first ?? "UTF8"
    }

    /// Takes the next piece of a script.
    ///
    /// - Parameter pass: called with each piece of the output.
    /// - Throws: `Malformed`; the errors of `pass`.
    mutating func take(
        _ bytes: UnsafeRawBufferPointer, _ pass: (UnsafeRawBufferPointer) throws -> Void
    ) throws {
        var rest = bytes
        while !rest.isEmpty {
            let count: Int
            switch state {
            case .script: count = try takeScript(rest, pass)
            case .rows(let table):
                count = try takeRows(rest, of: table)
                let piece = UnsafeRawBufferPointer(rebasing: rest[..<count])
                if table != nil {
                    // psql would not read the rest of such a row.
                    if let start = piece.baseAddress, memchr(start, 0, piece.count) != nil { throw Malformed.zeroByte }
                    try pass(piece)
                }
            }
            rest = UnsafeRawBufferPointer(rebasing: rest[count...])
        }
    }

    /// To be called after the last piece of each script.
    ///
    /// - Throws: `Malformed` if the script ends within the rows of a table.
    mutating func finish() throws {
        if case .rows = state { throw Malformed(description: "it ends within the rows of a table") }
        line.removeAll(keepingCapacity: true)
        isLong = false
    }

    // MARK: Rows

    /// Counts the rows up to the end of the piece, or up to the end of the table's rows.
    ///
    /// - Returns: the number of bytes that belong to the rows and to their end `\.`.
    private mutating func takeRows(_ bytes: UnsafeRawBufferPointer, of table: FetchedTable?) throws -> Int {
        guard let start = bytes.baseAddress else { return 0 }
        var (place, found) = (0, 0)
        defer { if let table, found > 0 { rows[table, default: 0] += found } }
        while place < bytes.count {
            let byte = bytes[place]
            switch mark {
            case .lineStart where byte == Self.backslash: mark = .backslash
            case .backslash where byte == Self.period: mark = .period
            case .period:
                // psql ends the data at some other lines that begin like this, too. COPY writes no such row.
                guard byte == Self.newline else {
                    throw Malformed(description: "a row begins with the end of the rows")
                }
                state = .script
                mark = .none
                return place + 1
            default:
                guard let end = memchr(start + place, Int32(Self.newline), bytes.count - place) else {
                    mark = .none
                    return bytes.count
                }
                found += 1
                place = start.distance(to: UnsafeRawPointer(end))
                mark = .lineStart
            }
            place += 1
        }
        return place
    }

    // MARK: Script

    /// Takes the rest of a line of SQL, and begins the rows of a table if the line is a COPY statement.
    ///
    /// - Returns: the number of bytes taken.
    private mutating func takeScript(
        _ bytes: UnsafeRawBufferPointer, _ pass: (UnsafeRawBufferPointer) throws -> Void
    ) throws -> Int {
        guard let end = bytes.firstIndex(of: UInt8(ascii: "\n")) else {
            keep(bytes[...])
            return bytes.count
        }
        keep(bytes[...end])
        // A quoted name may contain a line feed.
        let isCopy = line.starts(with: Self.copy)
        if isCopy, !isLong, !CopyHeader.isWhole(line) { return end + 1 }
        defer {
            line.removeAll(keepingCapacity: true)
            isLong = false
        }
        if isCopy {
            guard !isLong else { throw Malformed(description: "a COPY statement is too long") }
            try begin(try CopyHeader(line), pass)
        } else if !isLong, line.starts(with: Self.setEncoding) {
            try readEncoding()
        }
        return end + 1
    }

    private static let newline = UInt8(ascii: "\n")
    private static let backslash = UInt8(ascii: "\\")
    private static let period = UInt8(ascii: ".")
    private static let copy = Array("COPY ".utf8)
    private static let setEncoding = Array("SET client_encoding = ".utf8)

    private mutating func keep(_ bytes: Slice<UnsafeRawBufferPointer>) {
        if isLong { return }
        if line.count + bytes.count > Self.longest {
            isLong = true
            line += bytes.prefix(Self.copy.count)
        } else {
            line += bytes
        }
    }

    private mutating func readEncoding() throws {
        let value = String(
            decoding: line.dropFirst(Self.setEncoding.count).prefix { $0 != UInt8(ascii: ";") }, as: UTF8.self)
        guard let known = encodings.first(where: { value == "'\($0)'" }) else {
            throw Malformed(description: "it has the encoding \(value), not \(encodings.joined(separator: " or "))")
        }
        encoding = known
    }

    private mutating func begin(
        _ header: CopyHeader, _ pass: (UnsafeRawBufferPointer) throws -> Void
    ) throws {
        mark = .lineStart
        guard let destination = wanted[header.table] else {
            state = .rows(nil)
            return
        }
        guard Set(header.columns.map(ExactText.init)) == destination.columns,
            header.columns.count == destination.columns.count
        else {
            throw Malformed(
                description:
                    "it has the columns \(header.columns.joined(separator: ", ")) of \(header.table.path), which "
                    + "has the columns \(destination.columns.map(\.text).sorted().joined(separator: ", "))")
        }
        rows[header.table, default: 0] += 0
        state = .rows(header.table)
        let columns = header.columns.map(quoteIdentifier).joined(separator: ", ")
        let list = columns.isEmpty ? "" : " (\(columns))"
        // COPY does not verify rows that are declared as SQL_ASCII. So rows of a database without an encoding are
        // declared to have that of the target, which refuses what is invalid in it.
        let declared = encoding == "SQL_ASCII" ? target ?? encoding : encoding
        let statement = "COPY \(destination.path)\(list) FROM stdin (ENCODING \(quoteLiteral(declared)));\n"
        try Array(statement.utf8).withUnsafeBytes(pass)
    }
}

extension CopyFilter.Malformed {
    static let zeroByte = CopyFilter.Malformed(description: "its rows contain a zero byte")
}
