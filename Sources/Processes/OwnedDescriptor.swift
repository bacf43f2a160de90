import CSystem
import Foundation

/// A file descriptor with one owner. It is closed once: by `closeNow`, or when the value is destroyed.
struct OwnedDescriptor: ~Copyable {
    private(set) var number: Int32

    init(_ number: Int32) { self.number = number }

    deinit { if number >= 0 { close(number) } }

    /// Passes the ownership of the descriptor to the caller.
    mutating func release() -> Int32 {
        defer { number = -1 }
        return number
    }

    mutating func closeNow() {
        if number >= 0 { close(number) }
        number = -1
    }
}

/// The two ends of a pipe, close-on-exec.
struct OwnedPipe: ~Copyable {
    var reading: OwnedDescriptor
    var writing: OwnedDescriptor

    init() throws {
        var ends: [Int32] = [-1, -1]
        guard csystem_pipe(&ends) == 0 else { throw POSIXError(POSIXErrorCode(rawValue: errno) ?? .EMFILE) }
        reading = OwnedDescriptor(ends[0])
        writing = OwnedDescriptor(ends[1])
    }
}
