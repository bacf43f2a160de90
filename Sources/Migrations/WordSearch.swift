extension RandomAccessCollection<UInt8> {
    /// Returns whether the bytes contain an ASCII word in lower or upper case, also within a longer word. It is the
    /// quick search that decides whether a file has to be read statement by statement.
    func mentions(_ word: StaticString) -> Bool {
        withContiguousStorageIfAvailable { contains(word, $0) }
            ?? Array(self).withUnsafeBufferPointer {
                contains(word, $0)
            }
    }

    private func contains(_ word: StaticString, _ bytes: UnsafeBufferPointer<UInt8>) -> Bool {
        let (count, first) = (word.utf8CodeUnitCount, word.utf8Start[0] | 0x20)
        guard let base = bytes.baseAddress, bytes.count >= count else { return false }
        // A plain loop, because all files are searched at every start.
        var (place, offset) = (0, 0)
        while place <= bytes.count - count {
            if base[place] | 0x20 == first {
                offset = 1
                while offset < count, base[place + offset] | 0x20 == word.utf8Start[offset] | 0x20 { offset += 1 }
                if offset == count { return true }
            }
            place += 1
        }
        return false
    }
}
